"""Files into staging by COPY, and all that is wrong with those that PostgreSQL does not take."""
