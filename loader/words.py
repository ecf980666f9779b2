"""How numbers and their nouns are put for a person."""


def counted(count: int, one: str) -> str:
    """`1 row`, `7,043 rows`."""
    return f"{count:,} {one if count == 1 else f'{one}s'}"
