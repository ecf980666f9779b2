"""Files into staging by COPY, and everything that is wrong with those that COPY does not take."""

from loader.landing.copy import LandedFile, Landing, NotTaken, land
from loader.landing.diagnosis import diagnose
from loader.landing.forgotten import enter, forgotten
from loader.landing.rejects import Group, Rejects, causes, forget_in_rejects, grouped, listed, printable, write_rejects

__all__ = [
    "Group", "LandedFile", "Landing", "NotTaken", "Rejects", "causes", "diagnose", "enter",
    "forget_in_rejects", "forgotten", "grouped", "land", "listed", "printable", "write_rejects",
]  # fmt: skip
