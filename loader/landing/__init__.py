"""Landing: files go into the staging tables by COPY, without the rows of forgotten customers."""

from loader.landing.copy import LandedFile, Landing, land, new_staging_table
from loader.landing.forgotten import enter, forgotten, name_of, remember_tables, require_same_customers, take_out
