"""Why a month is refused, in words: causes, wrong values, the rows that audits find, and the report of all these.

Each module is imported only when it is needed, so that a good month does not wait for it: `problems` if a file is wrong
or differs from history or an audit does not pass, `audits` if audits run alone, are waived or end in an error,
`rejects` for the report.
"""
