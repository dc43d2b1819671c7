"""What `UpdateRatioLR` and `LearnedLR` share: reports of their `RatioControl`, and annealing."""

from __future__ import annotations

from typing import TextIO

from torch import Tensor

from ratewise.errors import invalid
from ratewise.rules.checks import check_count
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.ratio_control import RatioControl
from ratewise.schedulers.step_hooks import undo_unfinished


class RatioLR(ScheduledLR):
    """A scheduler whose rates come from a `RatioControl`; abstract."""

    _control: RatioControl

    @property
    def ratio(self) -> float:
        """The relative displacement of a step at the schedule's full height."""
        return self._control.ratio

    @property
    def per(self) -> str:
        """What has a factor of its own: "tensor", "group" or "model"."""
        return self._control.per

    @property
    def measure_every(self) -> int:
        """One step in so many is measured."""
        return self._control.displacement.measure_every

    def factors(self) -> Tensor:
        """Return what each tensor's displacement is multiplied by, a copy: nothing is read.

        One number a tensor, in the order of the scheduled groups; 0 before its first measurement.
        """
        return self._control.displacement.factors()

    def ratios(self) -> Tensor:
        """Return each tensor's ||dp|| / ||p|| on the last measured step, a copy; 0 if none."""
        return self._control.displacement.ratios.clone()

    def explain(self, last: int = 10, file: TextIO | None = None) -> None:
        """Print wanted and measured ratios, tensors with extreme factors, and a policy's features.

        Args:
            last: how many tensors to name.
            file: where to; None is standard output. Waits for a device.
        """
        check_count("last", last, 1)
        undo_unfinished(self.optimizer)
        self.flush()
        print(*self._control.lines(last), sep="\n", file=file)

    @property
    def _annealing(self) -> bool:
        """Whether `anneal` was called."""
        return bool(self._begin) or self.horizon != self._length

    def anneal(self, steps: int) -> None:
        """Let the ratio fall from where it is by the shape of `schedule`, over so many steps.

        Under a policy the correction stays what it is from then on.

        Args:
            steps: optimizer steps from now on, >= 1, and beyond a ramp that is not over yet.

        Raises:
            InvalidArgument: `steps` is no such number, or the schedule is "constant".
        """
        check_count("steps", steps, 1)
        if self.schedule == "constant":
            fix = "construct with e.g. schedule='cosine'"
            raise invalid("schedule", "one that falls", self.schedule, fix)
        begin = max(self.last_epoch, self.warmup_steps)
        if self.last_epoch + steps <= begin:
            fix = "the ramp is not over: anneal for longer"
            raise invalid("steps", f"above {begin - self.last_epoch}", steps, fix)
        self._begin_annealing(begin, self.last_epoch + steps, self.schedule)
