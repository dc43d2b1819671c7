"""A run's metrics and rates, thinned to a fixed number of points however long the run is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ratewise.rules import schema

#: Points kept: enough for a picture.
CAPACITY = 256
#: What `Trace.state` must look like.
CHECK = schema.record(
    {
        "stride": schema.count(1),
        "decisions": schema.count(),
        "points": schema.several(
            schema.row(schema.count(), schema.real, schema.real), most=CAPACITY
        ),
    }
)


class Trace:
    """Points (step, metric, rate), one in `stride` decisions; when full, every second one goes.

    Values may be scalar tensors on a device: they are read when the points are asked for.

    >>> trace = Trace()
    >>> for step in range(1, 1001):
    ...     if trace.due():
    ...         trace.add(step, 1.0 / step, 0.1)
    >>> len(trace.points()) <= CAPACITY, trace.points()[0], trace.stride
    (True, (4, 0.25, 0.1), 4)
    """

    __slots__ = ("_decisions", "_points", "stride")

    def __init__(self) -> None:
        self.stride = 1
        self._decisions = 0
        self._points: list[tuple[int, Any, Any]] = []

    def due(self) -> bool:
        """Count a decision; return whether its point is to be kept."""
        self._decisions += 1
        return self._decisions % self.stride == 0

    def add(self, step: int, metric: Any, lr: Any) -> None:
        """Keep the point of a decision that was due."""
        self._points.append((step, metric, lr))
        if len(self._points) > CAPACITY:
            self.stride *= 2
            self._points = self._points[1::2]

    def points(self) -> list[tuple[int, float, float]]:
        """Return the points as numbers."""
        self._points = [(step, float(metric), float(lr)) for step, metric, lr in self._points]
        return list(self._points)

    def state(self) -> dict[str, Any]:
        """Return plain data."""
        points = [list(point) for point in self.points()]
        return {"stride": self.stride, "decisions": self._decisions, "points": points}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.stride, self._decisions = int(state["stride"]), int(state["decisions"])
        points: Iterable[Any] = state["points"]
        self._points = [(int(step), float(metric), float(lr)) for step, metric, lr in points]
