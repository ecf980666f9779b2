"""Settings: the environment first, then .env in the project's folder."""

from __future__ import annotations

import datetime as dt
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from loader.errors import WrongUsage
from loader.project import VARIABLE, expanded, project

ADDRESS = r"^(?i:[a-z][a-z0-9+.-]*)://"
"""How the address of months begins that are not on this machine, like s3://bucket/exports."""

YEAR_AND_MONTH = r"[12]\d{3}-(?:0[1-9]|1[0-2])"
"""A month by its date, like 2024-02."""

UNREAD = re.compile("pg(ssl|gss|channelbinding|requireauth|service|passfile|options)[a-z]*")
"""Variables of libpq: a connection that ignores them may be less safe than was meant, or lead elsewhere."""


class Settings(BaseSettings):
    """The validated settings of the environment and .env.

    Without POSTGRES_HOST the embedded server is used; of the other POSTGRES_* settings only POSTGRES_DB counts then.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    host: str | None = Field(default=None, validation_alias="POSTGRES_HOST")
    port: int = Field(default=5432, validation_alias="POSTGRES_PORT")
    user: str = Field(default="streamflow", validation_alias="POSTGRES_USER")
    password: SecretStr = Field(default=SecretStr("streamflow"), validation_alias="POSTGRES_PASSWORD")
    database: str = Field(default="streamflow", validation_alias="POSTGRES_DB")
    home: Path = Field(default_factory=lambda: project().root / ".streamflow", validation_alias="STREAMFLOW_HOME")
    first_month: str = Field(default="2024-01", validation_alias="STREAMFLOW_FIRST_MONTH")
    data_dir: Annotated[str, StringConstraints(pattern=ADDRESS)] | Path = Field(
        default_factory=lambda: project().months, validation_alias="STREAMFLOW_DATA_DIR", union_mode="left_to_right"
    )
    links_to: Path | None = Field(default=None, validation_alias="STREAMFLOW_LINKS_TO")
    keep_months: int | None = Field(default=None, ge=1, validation_alias="STREAMFLOW_KEEP_MONTHS")
    archive_dir: Path | None = Field(default=None, validation_alias="STREAMFLOW_ARCHIVE_DIR")
    freeze: bool = Field(default=False, validation_alias="STREAMFLOW_FREEZE")
    log_format: Literal["text", "json"] = Field(default="text", validation_alias="STREAMFLOW_LOG_FORMAT")
    notify: SecretStr | None = Field(default=None, validation_alias="STREAMFLOW_NOTIFY")
    report: bool = Field(default=True, validation_alias="STREAMFLOW_REPORT")
    loader_password: SecretStr | None = Field(default=None, validation_alias="STREAMFLOW_LOADER_PASSWORD")
    reader_password: SecretStr | None = Field(default=None, validation_alias="STREAMFLOW_READER_PASSWORD")

    @model_validator(mode="before")
    @classmethod
    def _env_file_has_none_of_libpq(cls, given: dict[str, Any]) -> dict[str, Any]:
        """libpq reads PGSSLMODE and others from the environment only: in .env they would have no effect."""
        unread = [name.upper() for name in given if UNREAD.fullmatch(name) and name.upper() not in os.environ]
        if unread:
            raise ValueError(f"{', '.join(unread)} in .env has no effect: export it in the environment instead")
        return given

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("is not UTF-8")
        return value

    @field_validator("host", "user", "database")
    @classmethod
    def _is_no_address(cls, value: str | None) -> str | None:
        if "://" in (value or ""):  # errors would show its password
            raise ValueError("is an address: set each part of it in its own variable of POSTGRES_*")
        return value

    @field_validator("database")
    @classmethod
    def _dbt_can_quote_it(cls, value: str) -> str:
        if not value.isprintable() or "'" in value or '"' in value:
            raise ValueError("has a quote or a control character in it, which dbt cannot write: rename the database")
        return value

    @field_validator("first_month")
    @classmethod
    def _first_month_is_year_and_month(cls, value: str) -> str:
        if not re.fullmatch(YEAR_AND_MONTH, value, re.ASCII):
            raise ValueError('must be a year and a month like "2024-01"')
        return value

    @field_validator("home", "data_dir", "links_to", "archive_dir")
    @classmethod
    def _path_is_from_the_project(cls, value: Path | str | None) -> Path | str | None:
        try:
            return project().root / expanded(value) if isinstance(value, Path) else value
        except WrongUsage as error:
            raise ValueError(error) from None

    @model_validator(mode="after")
    def _old_months_can_be_archived(self) -> Settings:
        if self.keep_months and find_spec("pyarrow") is None:
            raise ValueError("STREAMFLOW_KEEP_MONTHS archives into Parquet: pip install pyarrow first")
        if self.freeze and self.keep_months:
            raise ValueError(
                "STREAMFLOW_FREEZE keeps a schema of every month, and STREAMFLOW_KEEP_MONTHS archives what no schema"
                " shows: set one of them, and `streamflow freeze` the months you need, or archive by hand"
            )
        return self

    @property
    def embedded(self) -> bool:
        """Whether the embedded server is used."""
        return self.host is None

    def as_of(self, month: int) -> dt.date:
        """The last day of the month that is `month` months after STREAMFLOW_FIRST_MONTH."""
        year, first = (int(part) for part in self.first_month.split("-"))
        months = year * 12 + first + month  # the month after, counted from year 0
        return dt.date(months // 12, months % 12 + 1, 1) - dt.timedelta(days=1)

    def label_of(self, as_of: dt.date) -> str | None:
        """The number of the month whose last day is the date, as 001; None for any other day."""
        number = self.number_of(as_of.year, as_of.month)
        return f"{number:03d}" if number >= 0 and self.as_of(number) == as_of else None

    def number_of(self, year: int, month: int) -> int:
        """The number of a calendar month; negative before STREAMFLOW_FIRST_MONTH."""
        first_year, first_month = (int(part) for part in self.first_month.split("-"))
        return (year - first_year) * 12 + month - first_month


def use_project(folder: Path) -> None:
    """From now on, work on the project in a folder; programs that this one starts use it too."""
    os.environ[VARIABLE] = str(folder.absolute())
    project.cache_clear()
    load_settings.cache_clear()


@cache
def load_settings() -> Settings:
    """Read the settings once.

    Raises:
        WrongUsage: a variable has an unusable value, which the message names, or .env cannot be read.
    """
    try:
        return Settings(_env_file=project().root / ".env")  # type: ignore[call-arg]
    except ValidationError as error:
        found = ([*map(str, item["loc"][:1]), item["msg"].removeprefix("Value error, ")] for item in error.errors())
        wrong = "; ".join(map(": ".join, found))
        raise WrongUsage(f"the settings cannot be used: {wrong}. docs/settings.md has them all.") from None
    except OSError as error:
        raise WrongUsage(f"{project().root / '.env'} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise WrongUsage(f"the settings cannot be used: {project().root / '.env'} is not UTF-8.") from None
