"""Tools that read what is published; the way from files to tables does not know them."""
