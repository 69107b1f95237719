"""Backups of the database: made, kept, checked and restored."""
