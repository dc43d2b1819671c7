"""A batch's own value of a metric of which Keras reports the mean over the epoch so far."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import keras


class BatchMetric:
    """The metrics of one name that are means; for the length of a batch they hold it alone.

    Args:
        model: whose metrics.
        name: of the metric.
    """

    def __init__(self, model: Any, name: str) -> None:
        named = [metric for metric in flat(model.metrics) if metric.name == name]
        self.means = [metric for metric in named if isinstance(metric, keras.metrics.Mean)]
        self._held: list[tuple[Any, Any]] = []  # variables and their past
        self._thread = 0

    def hold(self) -> None:
        """Put the epoch so far aside."""
        self._thread = threading.get_ident()
        variables = [v for metric in self.means for v in metric.variables]
        self._held = [(variable, keras.ops.copy(variable)) for variable in variables]
        for variable in variables:
            variable.assign(0.0)

    @property
    def elsewhere(self) -> bool:
        """Whether `hold` was called on another thread, so that batches may overtake each other."""
        return self._thread != threading.get_ident()

    def put_back(self) -> float | None:
        """Add the epoch so far to the batch; return the mean, or None if there was no batch."""
        used = [metric for metric in self.means if number(metric.count)]
        for variable, past in self._held:
            variable.assign_add(past)
        return number(used[-1].result()) if used else None


def flat(metrics: Iterable[Any]) -> Iterable[Any]:
    """Yield the metrics, and those that a container such as Keras's compiled ones holds."""
    for metric in metrics:
        yield metric
        yield from flat(getattr(metric, "metrics", ()))


def number(value: Any) -> float:
    """Return a scalar of Keras's backend as a Python float."""
    return float(keras.ops.convert_to_numpy(value))
