"""How numbers and their nouns are put for a person."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `7,043 rows`; `many` where the plural has more than an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
