"""streamflow's command line and loader: lands a month's CSV files in staging, has dbt publish them, keeps the ledger."""

__version__ = "0.1.0"
