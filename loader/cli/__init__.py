"""The command line: results on stdout, progress and complaints on stderr, exit codes of the contract."""
