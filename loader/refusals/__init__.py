"""Why a month is refused, in words: causes, wrong values, rows that audits found, and the report of all of it.

Imported when something is wrong, so that a good month does not wait for it.
"""
