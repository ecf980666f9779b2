"""Occasional work on a database: archive or abandon months, forget customers, migrate tables, make roles."""
