"""Land a month without dbt, and print by how many MB the peak of this process's memory has grown meanwhile."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from loader import ledger
from loader.contract.tables import load_contract
from loader.database import files_at_once, open_database
from loader.delivery import find_delivery
from loader.landing import land
from loader.settings import load_settings


def _peak() -> float:
    """In MB. Not that of getrusage, which on Linux begins with the memory of the process that started this one."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def main(data: Path) -> None:
    """Land month 000 of a folder of months."""
    tables = load_contract()
    delivery = find_delivery(load_settings(), 0, data)
    database = open_database(load_settings())
    with database.connect() as connection:
        ledger.prepare(connection)
        at_once, load_id = files_at_once(connection), ledger.begin(connection, delivery, "land", None, {})
    files = delivery.find(tables).files
    before = _peak()
    landing = land(database, delivery, tables, files, at_once, load_id)
    if landing.not_taken:
        raise SystemExit(str(landing.not_taken))
    sys.stdout.write(f"{_peak() - before:.1f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
