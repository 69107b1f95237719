"""Tests of the command `bountycoder`."""
