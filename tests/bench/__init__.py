"""Measurements against the targets of the issues; run by `make bench-<name>`, never by pytest."""
