"""An output file whose disk may be full, or whose reader may be gone."""

from __future__ import annotations

import io
from typing import Any


class Outlet(io.FileIO):
    """Drops what it cannot write and raises nothing; `lost` keeps the error, except when the reader closed a pipe."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write the data, or keep the error in `lost`."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.lost = error
            return len(data)
