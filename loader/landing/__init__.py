"""Files into staging by COPY, and everything that is wrong with those that COPY does not take."""

from loader.landing.copy import LandedFile, Landing, NotTaken, land
from loader.landing.diagnosis import diagnose
from loader.landing.rejects import Rejects, as_rows, printable, write_rejects

__all__ = [
    "LandedFile", "Landing", "NotTaken", "Rejects", "as_rows", "diagnose", "land", "printable", "write_rejects",
]  # fmt: skip
