"""The demo: drawings of records and turntables, and the site that serves them."""
