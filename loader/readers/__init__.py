"""Tools that read what is published; the pipeline from files to tables does not import them."""
