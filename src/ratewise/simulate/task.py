"""What the simulator trains: one architecture, its loss, and where batches come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ratewise.errors import invalid
from ratewise.rules.checks import check_count

#: (inputs, *targets), each [size, ...]; empty for a function of the parameters alone.
Data = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """A training that is run many times, each with initial weights and a data order of its own.

    Args:
        name: what tables call it.
        model: returns a new module, its weights drawn from torch's global generator. It keeps no
            running statistics (GroupNorm, not BatchNorm) and works under `torch.func.vmap`.
        loss: ``loss(output, *targets)``, the mean over one batch, a scalar; with empty `data`,
            ``loss(model())``.
        data: ``(inputs, *targets)``, each [size, ...] and shuffled, shared by all runs; or a
            function of a run's seed that returns them, where every run has data of its own.
        batch_size: rows a step, drawn without replacement within an epoch.
        evaluation: rows, the first ones of `data`, of the clean loss before and after training.
        held_out: rows, the last ones of `data`, that no run is trained on; their loss is looked at
            before and after training.

    Raises:
        InvalidArgument: sizes that do not fit together.
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    data: Data | Callable[[int], Data] = ()
    batch_size: int = 0
    evaluation: int = 256
    held_out: int = 0

    def __post_init__(self) -> None:
        check_count("evaluation", self.evaluation, 1)
        check_count("held_out", self.held_out, 0)
        if not callable(self.data):
            self.check(self.data)

    def check(self, data: Data) -> None:
        """Raise unless the sizes of the data, a run's or all runs', fit the batch."""
        sizes = [len(part) for part in data]
        if len(set(sizes)) > 1:
            fix = "give every input its target"
            raise invalid("data", "tensors with equally many rows", sizes, fix)
        if not sizes:
            return
        check_count("batch_size", self.batch_size, 1)
        rows = sizes[0] - self.held_out
        if rows < 1:
            fix = f"pass e.g. {sizes[0] // 4}"
            raise invalid("held_out", f"below the data's {sizes[0]} rows", self.held_out, fix)
        if self.batch_size > rows:
            allowed = f"between 1 and the {rows} rows that are trained on"
            raise invalid("batch_size", allowed, self.batch_size, f"pass e.g. {min(32, rows)}")

    def data_for(self, seed: int) -> Data:
        """Return the data of the run with this seed."""
        return self.data(seed) if callable(self.data) else self.data
