"""What a month is taken in with."""

from __future__ import annotations

import platform
from importlib import metadata

from loader import __version__
from loader.contract.packages import audit_package
from loader.database import Connection


def versions(connection: Connection) -> dict[str, str]:
    """Name -> version of the programs and the package of audits at work."""
    version = connection.info.server_version
    return {
        "streamflow": __version__,
        "python": platform.python_version(),
        "dbt": metadata.version("dbt-core"),
        "postgresql": f"{version // 10000}.{version % 10000}",
        "audited_with": audit_package() or "none",
    }
