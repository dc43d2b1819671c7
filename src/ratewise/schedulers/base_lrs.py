"""The groups' base rates under a scheduler of update ratios: their range, and their proportions.

Such a scheduler moves a tensor by a share of its own size, whatever the rate. So only the
proportions of the groups' rates matter. A rate far from those that weights are usually trained at
is treated as the nearest of them, so that factors stay within the range of a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from ratewise.errors import invalid
from ratewise.rate_proportional import RATE_PROPORTIONAL

#: Rates that a step is made at as they are; others are first multiplied to the nearest.
USUAL = (1e-6, 1e3)
#: Base rates that are taken at all.
LEAST, MOST = 1e-30, 1e30


def check_base_lrs(
    optimizer: Optimizer, groups: Sequence[dict[str, Any]], *, current: bool
) -> None:
    """Raise unless the groups' base rates can be steered from.

    Args:
        optimizer: whose groups they are.
        groups: parameter groups, with a base rate (``initial_lr``) or only a rate.
        current: look at the rates as they are now, too.

    Raises:
        InvalidArgument: a rate is 0, or outside `LEAST` to `MOST`; or below `USUAL` in an optimizer
            whose steps are no multiples of it.
    """
    for index, group in enumerate(groups):
        rate, base = float(group["lr"]), float(group.get("initial_lr", group["lr"]))
        if base == 0.0:
            fix = (
                f"group {index} would never move: pass e.g. lr=1e-3 (its size does not matter), or "
                "to keep the group as it is, parameters with requires_grad_(False) or groups= "
                "without it"
            )
            raise invalid("lr", "above 0 in each steered group", base, fix)
        check_range(optimizer, base)
        if current and rate == 0.0:
            fix = (
                f"group {index}, whose initial_lr is {base:g}, would not move: set group['lr'] to "
                "it first; a scheduler that begins at 0 is constructed after this one"
            )
            raise invalid("lr", "above 0 in each steered group", rate, fix)


def check_range(optimizer: Optimizer, base: float) -> None:
    """Raise `InvalidArgument` unless a base rate above 0 is one that can be steered from."""
    fix = "pass e.g. 1e-3: its size does not matter"
    if not LEAST <= base <= MOST:
        raise invalid("lr", f"a number in [{LEAST:g}, {MOST:g}]", base, fix)
    if base < USUAL[0] and type(optimizer) not in RATE_PROPORTIONAL:
        kind = type(optimizer).__name__
        raise invalid("lr", f"at least {USUAL[0]:g} with {kind}", base, fix)


def range_factors(bases: Sequence[float], per: str) -> list[float]:
    """Return what each group's rate is multiplied by to be in `USUAL`: 1 for most.

    Where one factor is for the whole model, so is this.

    >>> range_factors([1e6, 1e-3], "group"), range_factors([1e6, 1e-3], "model")
    ([0.001, 1.0], [0.001, 0.001])
    """
    if per == "model":
        bases = [max(bases)] * len(bases)
    low, high = USUAL
    return [1.0 if low <= base <= high else min(max(base, low), high) / base for base in bases]


def proportions(bases: Sequence[float], largest: float) -> list[float]:
    """Return each group's share of the ratio: its rate over the largest, and at most 1.

    >>> proportions([1e-4, 1e-2, 1.0], largest=1e-2)
    [0.01, 1.0, 1.0]
    """
    return [min(1.0, base / largest) for base in bases]
