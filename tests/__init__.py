"""Tests mirror the rooms; real servers on loopback."""
