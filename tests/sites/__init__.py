"""Web sites made for tests, served on loopback."""
