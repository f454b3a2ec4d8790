"""How cratedig is started: the local stack, the demo, deployments."""
