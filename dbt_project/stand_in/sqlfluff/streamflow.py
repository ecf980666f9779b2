"""The package's macros as sqlfluff sees them, which has no database to ask."""


def month_that_passed() -> str:
    return "date '2024-02-29'"


def months_before(table_name: str) -> str:  # noqa: ARG001
    return "date '2024-01-31'"


def newly_delivered(table_name: str) -> str:  # noqa: ARG001
    return "as_of in (date '2024-02-29') and (observed_as_of = as_of)"


def audited_table(test: object) -> str:  # noqa: ARG001
    return "users"


def rows_delivered(table_name: str, as_of: str) -> str:  # noqa: ARG001
    return f"{table_name}_snapshots"


def as_json(value: object) -> str:  # noqa: ARG001
    return "'[]'::jsonb"


def staged(table_name: str) -> dict[str, object]:  # noqa: ARG001
    return {"columns": {}, "config": {"meta": {"primary_key": "user_id"}}}


def quoted(names: object) -> list[str]:  # noqa: ARG001
    return ["user_id"]


def same_row(left: str, right: str, key: list[str]) -> str:  # noqa: ARG001
    return f"{left}.user_id = {right}.user_id"
