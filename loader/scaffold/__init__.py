"""`streamflow new`: make a project for a user's own tables."""
