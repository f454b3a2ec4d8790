"""Runs the crawler and the model, stores what they make, and shows it to people."""
