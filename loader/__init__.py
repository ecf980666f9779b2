"""streamflow's command line and loader: lands a month's CSV files, has dbt publish them, keeps the ledger."""

__version__ = "0.3.0.dev0"
