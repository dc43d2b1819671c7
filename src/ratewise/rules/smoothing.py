"""Rolling mean over the last `window` finite values, the same to the last bit in every runtime.

A running sum (add the new value, take off the oldest) drifts, and a single spike of 1e30 ruins it
for good when the spike leaves. So the window is summed afresh, and always pairwise in one order:
slot i with slot i + half, halving until one slot is left. Elementwise additions alone, so NumPy,
torch and jax give the same bits; and `FloatWindow` keeps the tree of partial sums, so that on
Python numbers a new value costs log2(window) additions instead of `window`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Window(NamedTuple):
    """The last values, as a ring: `slots` values along the first axis, each of the run's shape."""

    values: Any  #: [slots, ...] slots = the power of two at or above `window`; unused ones are 0
    position: Any  #: [...] int, the slot that the next value is written to
    count: Any  #: [...] int, how many values the ring holds, at most `window`


def slots(window: int) -> int:
    """Return the power of two at or above `window`: the length of the ring's first axis.

    >>> [slots(n) for n in (1, 2, 3, 50, 64)]
    [1, 2, 4, 64, 64]
    """
    return 1 << (window - 1).bit_length()


def empty(window: int, zero: Any, xp: Any) -> Window:
    """Return a ring without values; `zero` gives the shape, the type and the device."""
    none = xp.where(zero != 0, 1, 0)
    return Window(xp.stack([zero] * slots(window)), none, none)


def push(ring: Window, value: Any, *, window: int, xp: Any) -> tuple[Any, Window]:
    """Return the mean with `value` among the last `window` ones, and the ring that holds it.

    The mean is not finite if `value` is not, or if the sum overflows: then the caller keeps the
    old ring (`keep`), and the value has never been there.
    """
    if window == 1:
        return value, ring
    index = xp.cumsum(xp.ones_like(ring.values, dtype=xp.int32), 0) - 1
    values = xp.where(index == ring.position, value, ring.values)
    count = xp.where(ring.count < window, ring.count + 1, ring.count)
    position = xp.where(ring.position + 1 < window, ring.position + 1, 0)
    ring = Window(values, position, count)
    return rolling_mean(ring), ring


def rolling_mean(ring: Window) -> Any:
    """Return the mean of the ring's values, summed pairwise in the one order; NaN of none."""
    return pairwise_sum(ring.values) / ring.count


def pairwise_sum(values: Any) -> Any:
    """Return the sum along the first axis, a power of two long, in the one order."""
    while values.shape[0] > 1:
        half = values.shape[0] // 2
        values = values[:half] + values[half:]
    return values[0]


def keep(condition: Any, new: Window, old: Window, xp: Any) -> Window:
    """Return `new` where `condition` holds and `old` elsewhere."""
    return Window(*(xp.where(condition, a, b) for a, b in zip(new, old, strict=True)))


class FloatWindow:
    """The same rolling mean on Python numbers, in log2(window) additions a value.

    >>> rolling = FloatWindow(2)
    >>> [rolling.push(x) for x in (4.0, 2.0, 0.0)]
    [4.0, 3.0, 1.0]
    >>> rolling.push(float("inf")), rolling.push(2.0)  # what is not finite leaves no trace
    (inf, 1.0)
    """

    __slots__ = ("_tree", "count", "position", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.clear()

    def clear(self) -> None:
        """Forget every value."""
        self.position = self.count = 0
        self._tree: list[list[float]] = []
        size = slots(self.window)
        while size:
            self._tree.append([0.0] * size)
            size //= 2

    def push(self, value: float) -> float:
        """Take `value` in and return the mean; a mean that is not finite is not taken in."""
        window = self.window
        if window == 1:
            return value
        slot = self.position
        count = self.count + 1 if self.count < window else window
        before = self._tree[0][slot]
        mean = self._set(slot, value) / count
        if not math.isfinite(mean):
            self._set(slot, before)
            return mean
        self.count = count
        self.position = slot + 1 if slot + 1 < window else 0
        return mean

    def _set(self, slot: int, value: float) -> float:
        """Write one slot, mend the sums above it, and return the total."""
        leaves, *levels = self._tree
        leaves[slot] = value
        below = leaves
        for level in levels:
            half = len(level)
            slot %= half
            level[slot] = below[slot] + below[slot + half]
            below = level
        return below[0]

    def mean(self) -> float:
        """Return the mean of the values in the ring, of which there must be one."""
        return self._tree[-1][0] / self.count

    def values(self) -> list[float]:
        """Return the ring's slots, as `Window.values` holds them."""
        return list(self._tree[0])

    def restore(self, values: list[float], position: int, count: int) -> None:
        """Take over a ring that `values`, `position` and `count` describe."""
        self.clear()
        for slot, value in enumerate(values):
            self._set(slot, float(value))
        self.position, self.count = int(position), int(count)
