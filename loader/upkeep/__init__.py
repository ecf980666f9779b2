"""What is done to a database now and then: months archived or given up, customers forgotten, tables migrated."""
