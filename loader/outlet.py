"""A file that may be full, or closed by its reader."""

from __future__ import annotations

import io
from typing import Any


class Outlet(io.FileIO):
    """What cannot be written is lost, and ends nothing; `lost` says why, unless its reader has gone and had enough."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or remember why not."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.lost = error
            return len(data)
