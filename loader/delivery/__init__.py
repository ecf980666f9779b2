"""A month on disk: its folder or archive, its files, and what a CSV file must look like."""

from loader.delivery.csv_contract import Unfit, watched
from loader.delivery.files import CHANGED, UNREADABLE, SourceFile, unreadable
from loader.delivery.month import SHOWN, Delivery, Found, Problem, find_delivery, parse_month, parse_months
from loader.delivery.records import NOT_TEXT, NUL, Broken, LineNumbers, Record, read_records

__all__ = [
    "CHANGED", "NOT_TEXT", "NUL", "SHOWN", "UNREADABLE", "Broken", "Delivery", "Found", "LineNumbers", "Problem",
    "Record", "SourceFile", "Unfit", "find_delivery", "parse_month", "parse_months", "read_records", "unreadable",
    "watched",
]  # fmt: skip
