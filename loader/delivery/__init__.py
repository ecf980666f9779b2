"""A month on disk: its folder or archive, its files, and what a CSV file must look like."""

from loader.delivery.causes import NO_KEY, SHOWN, TOTAL_LINE, Problem, encoded_otherwise, is_total, of_value
from loader.delivery.csv_contract import Unfit, watched
from loader.delivery.files import CHANGED, UNREADABLE, SourceFile, TableFiles, hash_of, unreadable
from loader.delivery.month import Delivery, Found, find_delivery, months_in, parse_month, parse_months
from loader.delivery.records import NOT_TEXT, NUL, Broken, LineNumbers, Record, read_records

__all__ = [
    "CHANGED", "NOT_TEXT", "NO_KEY", "NUL", "SHOWN", "TOTAL_LINE", "UNREADABLE", "Broken", "Delivery", "Found",
    "LineNumbers", "Problem", "Record", "SourceFile", "TableFiles", "Unfit", "encoded_otherwise", "find_delivery",
    "hash_of", "is_total", "months_in", "of_value", "parse_month", "parse_months", "read_records", "unreadable",
    "watched",
]  # fmt: skip
