"""Create, keep, verify and restore backups of the database."""
