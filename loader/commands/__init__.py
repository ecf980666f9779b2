"""Commands that cli.py only registers; each module one job."""
