"""A month from its files to its tables: land, dbt build, close the entry in the ledger."""
