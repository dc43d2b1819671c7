"""What `UpdateRatioLR` and `LearnedLR` share: a ratio that follows from the run, and annealing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, TextIO

from torch import Tensor

from ratewise.errors import invalid, wrong_type
from ratewise.rules import schema
from ratewise.rules.checks import check_count
from ratewise.rules.ratio_law import Outlook
from ratewise.rules.schema import Check
from ratewise.schedulers import resume
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.ratio_control import RatioControl
from ratewise.schedulers.resume import Place, at
from ratewise.schedulers.step_hooks import undo_unfinished

#: Where a state keeps the arguments that all these schedulers have, and what it must be.
RATIO_PLACES: Mapping[str, Place] = {
    "ratio": at("rule.config.ratio"),
    "keep_proportions": at("rule.keep_proportions"),
    "steps_per_epoch": at("steps_per_epoch"),
    "pretrained": at("pretrained"),
}
RATIO_TABLE: Mapping[str, Check] = {
    "own_ratio": schema.flag,
    "steps_per_epoch": schema.optional(schema.count(1)),
    "pretrained": schema.flag,
}


class RatioLR(ScheduledLR):
    """A scheduler whose rates come from a `RatioControl`; abstract.

    Its ratio is the user's own, or follows from what is known of the run.
    """

    _control: RatioControl
    _own_ratio: bool
    _steps_per_epoch: int | None
    _pretrained: bool
    _places: ClassVar[Mapping[str, Place]] = {**ScheduledLR._places, **RATIO_PLACES}
    _table: ClassVar[Mapping[str, Check]] = {**ScheduledLR._table, **RATIO_TABLE}

    @abstractmethod
    def _ratio_of(self, run: Outlook) -> float:
        """Return the ratio for a run, where the user gave none."""

    def _know(self, run: Outlook, ratio: float | None) -> float:
        """Note what is known of the run, and return its ratio; called before anything else.

        Raises:
            InvalidArgument, WrongType: a number below 1, or no word of yes or no.
        """
        if run.total_steps is not None:
            check_count("total_steps", run.total_steps, 1)
        if run.steps_per_epoch is not None:
            check_count("steps_per_epoch", run.steps_per_epoch, 1)
        if not isinstance(run.pretrained, bool):
            fix = "pass True to fine-tune"
            raise wrong_type("pretrained", "True or False", run.pretrained, fix)
        self._steps_per_epoch, self._pretrained = run.steps_per_epoch, run.pretrained
        self._own_ratio = ratio is not None
        return self._ratio_of(run) if ratio is None else ratio

    def hear_data(self, steps_per_epoch: int, batch_size: int | None = None) -> None:
        """Take the steps in a pass from a trainer, before the first step, if none were given.

        Args:
            steps_per_epoch: of the optimizer, in a pass over the data.
            batch_size: rows in one of them, or None; the ratio does not depend on it.
        """
        if self._steps_per_epoch is not None or self.last_epoch > 0 or steps_per_epoch < 1:
            return
        self._steps_per_epoch = steps_per_epoch
        displacement = self._control.displacement
        if not self._own_ratio:
            ratio = self._ratio_of(Outlook(self.horizon, steps_per_epoch, self._pretrained))
            displacement.config = replace(displacement.config, ratio=ratio)

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        super()._follow(ours, saved, changed)
        follows = not (ours["own_ratio"] or "ratio" in self._given or resume.annealing(saved))
        if changed & {"total_steps", "steps_per_epoch", "pretrained"} and follows:
            run = Outlook(ours["length"], ours["steps_per_epoch"], ours["pretrained"])
            ours["rule"]["config"]["ratio"] = self._ratio_of(run)

    def _to_state(self) -> dict[str, Any]:
        return {
            **super()._to_state(),
            "own_ratio": self._own_ratio,
            "steps_per_epoch": self._steps_per_epoch,
            "pretrained": self._pretrained,
        }

    def _restore(self, ours: dict[str, Any]) -> None:
        super()._restore(ours)
        self._own_ratio = "ratio" in self._given or bool(ours["own_ratio"])
        self._steps_per_epoch, self._pretrained = ours["steps_per_epoch"], ours["pretrained"]

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps in a pass over the data; None where they are not known."""
        return self._steps_per_epoch

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
