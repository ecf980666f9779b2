"""Why a month is refused, in words: causes, wrong values, rows that audits found, and the report of all of it.

Each module is imported when something is wrong, so that a good month does not wait for it: `files` where a name is not
as declared, `problems` where a file did not land or an audit failed, `audits` where one is waived or cannot be run,
`rejects` for the report.
"""
