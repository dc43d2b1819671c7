"""What `UpdateRatioLR` and `LearnedLR` report of their `RatioControl`."""

from __future__ import annotations

from typing import Any, TextIO

from torch import Tensor
from torch.optim import Optimizer

from ratewise.rules.checks import check_count
from ratewise.schedulers.ratio_control import RatioControl
from ratewise.schedulers.step_hooks import undo_unfinished


class RatioViews:
    """Ratios, factors and explanations of a scheduler that has a `RatioControl`; a mixin."""

    _control: RatioControl
    optimizer: Optimizer
    flush: Any

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
