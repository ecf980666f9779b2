"""How many examples hypothesis makes up for a test, and which."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

LONG = bool(os.environ.get("STREAMFLOW_TEST_LONG"))
RANDOM = bool(os.environ.get("STREAMFLOW_TEST_RANDOM"))


def fuzz(*, short: int, long: int, shrink: bool = True) -> Callable[[Any], Any]:
    """Settings for a test: the same examples in every run, unless STREAMFLOW_TEST_RANDOM asks for others.

    Args:
        short: how many examples.
        long: how many when STREAMFLOW_TEST_LONG is set.
        shrink: whether to look for the shortest failing example; False if one example takes seconds.
    """
    return settings(
        max_examples=long if LONG else short,
        deadline=None,
        derandomize=not RANDOM,
        database=None,
        print_blob=True,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
