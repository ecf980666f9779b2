"""Files into staging by COPY, and everything that is wrong with those that COPY does not take."""

from loader.landing.copy import LandedFile, Landing, NotTaken, land
from loader.landing.diagnosis import diagnose
from loader.landing.forgotten import enter, forgotten
from loader.landing.rejects import Rejects, as_rows, forget_in_rejects, printable, write_rejects

__all__ = [
    "LandedFile", "Landing", "NotTaken", "Rejects", "as_rows", "diagnose", "enter", "forget_in_rejects", "forgotten",
    "land", "printable", "write_rejects",
]  # fmt: skip
