"""A month's delivery: its folder or archive, its files, and what a CSV file must look like."""

from loader.delivery.csv_contract import Unfit, checked
from loader.delivery.files import CHANGED, UNREADABLE, SourceFile, TableFiles, hash_of, unreadable
from loader.delivery.month import Delivery, Found, find_delivery, months_in, parse_month, parse_months
from loader.delivery.problem import Problem
