"""Connections to PostgreSQL: the embedded server or another, one PostgreSQL or a Citus cluster."""
