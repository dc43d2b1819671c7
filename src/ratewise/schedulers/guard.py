"""A guard that takes a run back to its last good weights when the loss spikes."""

from __future__ import annotations

import copy
import math
import os
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from ratewise.errors import SnapshotLost, TooManyRollbacks, invalid, wrong_type
from ratewise.files import writing
from ratewise.rules import schema
from ratewise.rules.checks import check_count, is_number
from ratewise.schedulers.agreement import highest_alarm
from ratewise.schedulers.events import Event
from ratewise.schedulers.metric import as_float
from ratewise.schedulers.step_hooks import undo_unfinished

#: Good losses that a new one is held against, and those whose mean shows a slow rise.
HISTORY, RECENT = 50, 10
_GOOD, _SPIKE, _RISE = range(3)
#: What `SpikeGuard.state_dict` must look like.
_STATE = schema.record(
    {
        "format": schema.choice(1),
        "history": schema.several(schema.number(), most=HISTORY),
        "first": schema.number(),
        "best": schema.optional(schema.row(schema.number(), schema.number(0.0))),
        **dict.fromkeys(("good", "calls", "in_a_row", "skipped", "rollbacks"), schema.count()),
    }
)


class SpikeGuard:
    r"""Keep the last good weights; go back to them, at a lower rate, when the loss spikes.

    A first spike may come from the batch: it is passed over, the weights have not changed, and
    running statistics (BatchNorm's) are put back. If the next loss is not back to normal, the
    weights are the cause, and the run goes back. Call it
    with the loss before `backward`, so that a bad batch never reaches the weights:

    .. code-block:: python

        guard = ratewise.SpikeGuard(model, optimizer, scheduler)
        for batch in data:
            loss = model(batch)
            if guard.spiked(loss):
                continue  # passed over; or weights, optimizer and scheduler are back
            ...

    With m and s the mean and standard deviation of the last 50 good losses and f the first one, a
    loss l is a spike if it is not finite or
    :math:`l > m + \max(\mathtt{spike} \cdot s, |m|, |f| / 10)`; right after a spike half of that
    margin counts. A mean of ten good losses that lies so far above the lowest such mean is a slow
    rise: the run goes back at once. Where processes train together, a spike of one of them is a
    spike for all: call it on every rank.

    It looks at the loss alone: it does not notice weights that a first huge step has ruined without
    the loss rising (a network whose units have all died).

    Args:
        model: what is trained; its parameters and buffers are kept and restored.
        optimizer: likewise, with its state and rates.
        scheduler: likewise: a ratewise or torch scheduler, or None.
        spike: how many standard deviations above the mean a spike begins.
        tolerate: spikes in a row that are only passed over; 0 goes back at once.
        factor: what the rates are multiplied by at each return, in (0, 1].
        snapshot_every: good losses between two snapshots, each a copy of weights and state.
        check_every: look at the loss once in so many calls: reading it waits for a device.
        max_rollbacks: how many returns before `TooManyRollbacks`.
        path: file for the snapshot; None keeps it in memory, on the weights' device.

    Raises:
        WrongType, InvalidArgument: an argument outside its range.
        SnapshotLost: the file cannot be written.

    >>> layer = nn.Linear(1, 1)
    >>> guard = SpikeGuard(layer, torch.optim.SGD(layer.parameters(), lr=0.1))
    >>> [guard.spiked(loss) for loss in (1.0, 0.9, math.nan, 0.8)]
    [False, False, True, False]
    >>> [guard.spiked(loss) for loss in (math.nan, math.nan)]
    [True, True]
    >>> guard.skipped, guard.rollbacks, guard.optimizer.param_groups[0]["lr"]
    (2, 1, 0.05)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Any = None,
        *,
        spike: float = 6.0,
        tolerate: int = 1,
        factor: float = 0.5,
        snapshot_every: int = 50,
        check_every: int = 1,
        max_rollbacks: int = 10,
        path: str | Path | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise wrong_type("model", "a torch.nn.Module", model, "pass the model that is trained")
        if not isinstance(optimizer, Optimizer):
            raise wrong_type("optimizer", "a torch.optim.Optimizer", optimizer, "pass it second")
        if not (scheduler is None or hasattr(scheduler, "rescale") or _has_one_base(scheduler)):
            fix = "pass the ratewise scheduler itself, not what wraps it, or None"
            allowed = "a ratewise scheduler, or one of torch's that has base rates alone"
            raise wrong_type("scheduler", allowed, scheduler, fix)
        if not (is_number(spike) and spike > 0.0):
            raise invalid("spike", "a number in (0, inf]", spike, "pass e.g. 6")
        if not (is_number(factor) and 0.0 < factor <= 1.0):
            raise invalid("factor", "a number in (0, 1]", factor, "pass e.g. 0.5")
        check_count("tolerate", tolerate, 0)
        check_count("snapshot_every", snapshot_every, 1)
        check_count("check_every", check_every, 1)
        check_count("max_rollbacks", max_rollbacks, 1)
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self._spike, self._factor = float(spike), float(factor)
        self._tolerate, self._most = tolerate, max_rollbacks
        self._snapshot_every, self._check_every = snapshot_every, check_every
        self._path = None if path is None else _checked_path(path)
        self._history: deque[float] = deque(maxlen=HISTORY)
        self._calls = self._good = self._in_a_row = 0
        self._first = 0.0
        self._best: tuple[float, float] | None = None  # lowest mean of 10 losses, its deviation
        #: Losses that were passed over.
        self.skipped = 0
        #: How often the run has gone back, in all; and since the snapshot that is kept now.
        self.rollbacks = self._since_snapshot = 0
        self._returns: deque[Event] = deque(maxlen=max_rollbacks)
        self._kept: Any = None
        self._keep()

    def spiked(self, loss: float | Tensor) -> bool:
        """Look at a loss; return True if it was a spike, which must not be trained on.

        Args:
            loss: this step's loss, before `backward`.

        Raises:
            TooManyRollbacks: one more than `max_rollbacks`; the last good weights are in place.
            SnapshotLost: the run was to go back, and the snapshot's file is gone or damaged; model,
                optimizer and scheduler are as they were.
            WrongType, InvalidArgument: `loss` is not one number.
        """
        self._calls += 1
        if self._calls % self._check_every:
            return False
        value = as_float(loss)
        alarm = highest_alarm(self._alarm(value), loss)
        if self._sizes() != self._kept_sizes:  # the old snapshot does not fit the optimizer
            if alarm != _GOOD:
                self._put_buffers_back()
            self._keep()
        if alarm == _GOOD:
            self._take(value)
            return False
        self._in_a_row += 1
        if alarm == _SPIKE and self._in_a_row <= self._tolerate:
            self.skipped += 1
            self._put_buffers_back()
        else:
            self._go_back(value)
        return True

    def _alarm(self, loss: float) -> int:
        """Return whether a loss is good, a spike, or completes a slow rise."""
        if not math.isfinite(loss):
            return _SPIKE
        if self._history:
            mean = float(np.mean(self._history))
            margin = self._margin(mean, float(np.std(self._history)))
            if loss > mean + (margin / 2 if self._in_a_row else margin):
                return _SPIKE
        recent = [*self._history, loss][-RECENT:]
        if self._best is not None and np.mean(recent) > self._best[0] + self._margin(*self._best):
            return _RISE
        return _GOOD

    def _margin(self, mean: float, deviation: float) -> float:
        return max(self._spike * deviation, abs(mean), abs(self._first) / 10)

    def _take(self, loss: float) -> None:
        """Remember a good loss, and keep the weights that gave it, now and then."""
        self._in_a_row = 0
        self._buffers = [buffer.clone() for buffer in self._statistics()]
        if not self._good:
            self._first = loss
        self._history.append(loss)
        self._good += 1
        well = True
        if len(self._history) >= RECENT:
            recent = list(self._history)[-RECENT:]
            mean, deviation = float(np.mean(recent)), float(np.std(recent))
            if self._best is None or mean < self._best[0]:
                self._best = (mean, deviation)
            well = mean <= self._best[0] + self._margin(*self._best) / 2
        if self._good % self._snapshot_every == 0 and well:
            self._keep()

    def _keep(self) -> None:
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        state = {name: x.state_dict() for name, x in parts.items() if x is not None}
        if self._path is None:
            self._kept = copy.deepcopy(state)
        else:
            self._checksum = _written(state, self._path)
        self._kept_sizes = self._sizes()
        self._names = state["model"].keys() - dict(self.model.named_parameters()).keys()
        self._buffers = [buffer.clone() for buffer in self._statistics()]
        self._kept_losses = list(self._history), self._best
        self._since_snapshot = 0

    def _sizes(self) -> list[int]:
        return [len(group["params"]) for group in self.optimizer.param_groups]

    def _statistics(self) -> list[Tensor]:
        """Return the buffers that a checkpoint holds: a forward pass may have changed them."""
        if not self._names:
            return []
        return [buffer for name, buffer in self.model.named_buffers() if name in self._names]

    def _put_buffers_back(self) -> None:
        """Undo what the forward pass of a bad batch did to running statistics."""
        for buffer, good in zip(self._statistics(), self._buffers, strict=True):
            buffer.copy_(good)

    def _go_back(self, loss: float) -> None:
        undo_unfinished(self.optimizer)
        spiked_at = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._restore()
        restored = [float(group["lr"]) for group in self.optimizer.param_groups]
        fallen = min((s / r for s, r in zip(spiked_at, restored, strict=True) if r), default=1.0)
        losses, self._best = self._kept_losses
        self._history = deque(losses, maxlen=HISTORY)
        self._buffers = [buffer.clone() for buffer in self._statistics()]
        self._in_a_row = 0
        if self.rollbacks >= self._most:
            raise TooManyRollbacks(
                f"loss {loss:.4g} was a spike after {self.rollbacks} returns to the last good "
                "weights, which are in place: look at the data, start at a lower rate, or pass a "
                "larger max_rollbacks"
            )
        self.rollbacks += 1
        self._since_snapshot += 1
        # The snapshot brought the old rates back. Another schedule may have lowered them since:
        # what comes now must be lower than what spiked, too.
        lower = self._factor**self._since_snapshot
        if self._factor < 1.0 and lower >= fallen > 0:
            lower = self._factor * fallen
        if hasattr(self.scheduler, "rescale"):
            # The snapshot knows nothing of earlier returns to it: they are told again.
            log = set(map(repr, self.scheduler.events))  # NaN is not equal to itself
            self.scheduler.recall(event for event in self._returns if repr(event) not in log)
            self.scheduler.rescale(lower, reason="rollback", metric=loss)
            self._returns.append(self.scheduler.events[-1])
            return
        for group in self.optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] = _scaled(group[key], lower)
        if self.scheduler is not None:
            self.scheduler.base_lrs = [_scaled(rate, lower) for rate in self.scheduler.base_lrs]

    def _restore(self) -> None:
        state = self._kept if self._path is None else self._from_file(self._path)
        self.model.load_state_dict(state["model"])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):  # compiled and captured steps hold on to the tensor
                group["lr"] = rate.copy_(torch.as_tensor(group["lr"]))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))

    def _from_file(self, path: Path) -> Any:
        """Return the snapshot as it was written, read whole before anything is put back."""
        try:
            if _checksum(path) != self._checksum:
                raise ValueError("it is not what the guard wrote")
            return torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds, depending on where the damage is
            raise SnapshotLost(
                f"the guard's snapshot {str(path)!r} cannot be read ({error}), and the run was to "
                "go back to it: model, optimizer and scheduler are as they were; load a "
                "checkpoint, and leave the file to the guard"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Return what the guard remembers, as plain data; a checkpoint is its own snapshot."""
        return {
            "format": 1,
            "history": list(self._history),
            "first": self._first,
            "best": None if self._best is None else list(self._best),
            "good": self._good,
            "calls": self._calls,
            "in_a_row": self._in_a_row,
            "skipped": self.skipped,
            "rollbacks": self.rollbacks,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`; load model, optimizer and scheduler first: they are kept now.

        Raises:
            InvalidState: it is not a guard's, of a newer format, or damaged; nothing has changed.
        """
        _STATE("the guard's state_dict", state_dict)
        self._history = deque(map(float, state_dict["history"]), maxlen=HISTORY)
        self._first = float(state_dict["first"])
        self._best = None if state_dict["best"] is None else tuple(state_dict["best"])
        self._good, self._calls = int(state_dict["good"]), int(state_dict["calls"])
        self._in_a_row, self.skipped = int(state_dict["in_a_row"]), int(state_dict["skipped"])
        self.rollbacks = int(state_dict["rollbacks"])
        self._keep()


def _has_one_base(scheduler: Any) -> bool:
    """Return whether all of a torch scheduler's rates follow its `base_lrs`."""
    others = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR, lr_scheduler.ChainedScheduler)
    return hasattr(scheduler, "base_lrs") and not isinstance(scheduler, others)


def _checked_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise wrong_type("path", "a file's name", path, "pass e.g. 'good.pt'")
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise invalid("path", "a file in a folder that exists", str(path), "make the folder first")
    return Path(path)


def _written(state: Any, path: Path) -> int:
    """Write a snapshot whole or not at all, and return its checksum."""
    try:
        with writing.whole(path) as temporary:
            with temporary.open("wb") as file:  # torch refuses a path that begins with a dot
                torch.save(state, file)
            return _checksum(temporary)
    except OSError as error:
        raise SnapshotLost(
            f"the guard's snapshot {str(path)!r} cannot be written ({error.strerror}): "
            "make room, or pass path=None to keep it in memory"
        ) from error


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file, read a MiB at a time."""
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _scaled(rate: Any, factor: float) -> Any:
    """Return the rate times `factor`, a tensor in place."""
    return rate.mul_(factor) if isinstance(rate, Tensor) else rate * factor
