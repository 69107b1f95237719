"""Tests of the command, with real processes."""
