"""Files into staging by COPY."""

from loader.landing.copy import LandedFile, Landing, land, new_staging_table
from loader.landing.forgotten import enter, forgotten, take_out

__all__ = ["LandedFile", "Landing", "enter", "forgotten", "land", "new_staging_table", "take_out"]
