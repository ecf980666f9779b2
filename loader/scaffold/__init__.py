"""Makes a project of one's own: `streamflow new`."""
