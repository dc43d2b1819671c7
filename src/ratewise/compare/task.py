"""What is trained: a model, data in three parts, a loss, a number of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ratewise.errors import invalid, wrong_type

#: Tensors with the same first dimension: one entry an example.
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """A training task; make one of your own to compare schedules on your model.

    Args:
        name: what tables and files call it.
        model: returns a fresh, untrained model; called with torch's generator seeded.
        loss: ``loss(model, batch)``, a scalar tensor, the mean over the batch.
        train: the examples to train on.
        validation: the examples that choose the rate.
        test: the examples that judge; nothing is chosen on them.
        steps: length of a run in optimizer steps.
        batch_size: examples a step.
        metric: ``metric(model, batch)``, a scalar tensor, the mean over the batch; or None.
        metric_name: how tables call the metric.
        metric_mode: ``"max"`` if a larger metric is better, else ``"min"``.
        evaluations: validations a run. The interval between two is what the schedules that
            act once an epoch (ReduceLROnPlateau) take for an epoch.
        preset: ``"small"``, ``"full"`` or a name of your own; part of a run's identity.
        rates: base rates to try, by optimizer name; the optimizer's own grid where absent.
        data_set: what it is learned from; tasks that share it are not counted as independent.
            The task's own name where absent.

    Raises:
        WrongType, InvalidArgument: a field outside its range.
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    train: Batch
    validation: Batch
    test: Batch
    steps: int
    batch_size: int
    metric: Callable[[nn.Module, Batch], Tensor] | None = None
    metric_name: str = ""
    metric_mode: str = "max"
    evaluations: int = 20
    preset: str = "small"
    rates: Mapping[str, Sequence[float]] | None = None
    data_set: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise wrong_type("Task.name", "a string that is not empty", self.name, "name the task")
        if self.data_set is not None and not isinstance(self.data_set, str):
            raise wrong_type("Task.data_set", "a string or None", self.data_set, "name the data")
        for field in ("model", "loss"):
            if not callable(getattr(self, field)):
                raise wrong_type(
                    f"Task.{field}", "a function", getattr(self, field), "pass the function itself"
                )
        for field in ("train", "validation", "test"):
            _check_part(f"Task.{field}", getattr(self, field))
        for field in ("steps", "batch_size", "evaluations"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise invalid(f"Task.{field}", "an integer >= 1", value, "pass 1 or more")
        if self.metric_mode not in ("max", "min"):
            raise invalid("Task.metric_mode", "'max' or 'min'", self.metric_mode, "pass one")


def _check_part(name: str, part: object) -> None:
    fix = "pass (inputs, targets), one entry an example along the first dimension"
    if not isinstance(part, tuple) or not part or not all(isinstance(x, Tensor) for x in part):
        raise wrong_type(name, "a tuple of tensors", part, fix)
    lengths = [len(x) if x.dim() else 0 for x in part]
    if min(lengths) < 1 or len(set(lengths)) > 1:
        raise invalid(name, "tensors with the same first dimension >= 1", lengths, fix)
