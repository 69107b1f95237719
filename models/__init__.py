"""The database: tables, their queries and their rules.

Only this package uses sqlalchemy.
"""
