"""A month on disk: its folder or archive, its files, and what a CSV file must look like."""
