"""Checks of settings that the rules share, with the project's named errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from ratewise.errors import invalid, unknown

#: No count is larger: sums of counts stay exact in a float.
MOST_COUNT = 2**52


def is_number(value: Any) -> bool:
    """Return whether a setting is a real number that a float can hold; booleans are not.

    >>> is_number(2), is_number(True), is_number(10**400)
    (True, False, False)
    """
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)


def check_count(name: str, value: Any, least: int) -> None:
    """Raise unless a setting is an integer >= `least`; a boolean does not count as one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise invalid(name, f"an integer >= {least}", value, f"pass {least} or more")
    if value > MOST_COUNT:
        raise invalid(name, f"an integer from {least} to {MOST_COUNT}", value, "pass a smaller one")


def check_amount(name: str, value: Any) -> None:
    """Raise unless a setting is a finite number >= 0, of which 0 turns it off."""
    if not (is_number(value) and 0.0 <= value < math.inf):
        raise invalid(name, "a finite number >= 0", value, "pass 0 to turn it off")


def check_betas(value: Any, example: tuple[float, float]) -> None:
    """Raise unless a setting is two numbers in [0, 1), the decays of Adam's averages."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    if not (pair and all(is_number(beta) and 0.0 <= beta < 1.0 for beta in value)):
        raise invalid("betas", "two numbers in [0, 1)", value, f"pass e.g. {example}")


def check_choices(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise unless each of these settings has one of its values."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise unknown(name, getattr(config, name), known)
