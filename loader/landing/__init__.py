"""Files into staging by COPY, and everything that is wrong with those that COPY does not take."""

from loader.landing.copy import LandedFile, Landing, NotTaken, land
from loader.landing.diagnosis import diagnose
from loader.landing.forgotten import enter, forgotten
from loader.landing.rejects import Group, Rejects, as_rows, causes, forget_in_rejects, grouped, printable, write_rejects

__all__ = [
    "Group", "LandedFile", "Landing", "NotTaken", "Rejects", "as_rows", "causes", "diagnose", "enter",
    "forget_in_rejects", "forgotten", "grouped", "land", "printable", "write_rejects",
]  # fmt: skip
