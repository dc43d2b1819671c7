"""A run's metrics and rates, thinned to a fixed number of points however long the run is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Points kept: enough for a picture.
CAPACITY = 256


class Trace:
    """Points (step, metric, rate) at evenly spaced steps; when full, every second one goes.

    Values may be scalar tensors on a device: they are read when the points are asked for.

    >>> trace = Trace()
    >>> for step in range(1, 1001):
    ...     trace.add(step, 1.0 / step, 0.1)
    >>> len(trace.points()) <= CAPACITY, trace.points()[0], trace.stride
    (True, (4, 0.25, 0.1), 4)
    """

    __slots__ = ("_points", "stride")

    def __init__(self) -> None:
        self.stride = 1
        self._points: list[tuple[int, Any, Any]] = []

    def add(self, step: int, metric: Any, lr: Any) -> None:
        """Keep a point if its step is due."""
        if step % self.stride == 0:
            self._points.append((step, metric, lr))
            if len(self._points) > CAPACITY:
                self.stride *= 2
                self._points = [p for p in self._points if p[0] % self.stride == 0]

    def points(self) -> list[tuple[int, float, float]]:
        """Return the points as numbers."""
        self._points = [(step, float(metric), float(lr)) for step, metric, lr in self._points]
        return list(self._points)

    def state(self) -> dict[str, Any]:
        """Return plain data."""
        return {"stride": self.stride, "points": [list(point) for point in self.points()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.stride = int(state["stride"])
        points: Iterable[Any] = state["points"]
        self._points = [(int(step), float(metric), float(lr)) for step, metric, lr in points]
