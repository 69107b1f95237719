"""The database: tables, their queries and their rules. sqlalchemy is used only here."""
