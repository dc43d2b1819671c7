"""What a scheduler's constructor was given, and what follows where that holds against a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratewise.schedulers.anchor import Anchor, anchor_scale
from ratewise.schedulers.clock import OptimizerClock
from ratewise.schedulers.prevailing import Place, at

if TYPE_CHECKING:
    from typing_extensions import Self


class Given:
    """The part of a scheduler that knows its constructor's arguments; abstract, a mixin."""

    #: Where a state keeps the constructor's arguments.
    _places: ClassVar[Mapping[str, Place]] = {
        "total_steps": at("length"),
        "anchor": at("anchor"),
        "every": at("every"),
        "warmup_steps": at("warmup_steps"),
        "missing": at("missing"),
    }
    _given: frozenset[str]  #: names of the arguments that the constructor was given
    _anchor: Anchor
    _clock: OptimizerClock

    def __new__(cls, *args: Any, **arguments: Any) -> Self:
        """Remember which arguments were given: in `load_state_dict` they hold."""
        self = super().__new__(cls)
        self._given = frozenset(k for k, value in arguments.items() if value is not None)
        return self

    def _anchor_height(self) -> float:
        """Return the height of what the schedule rides on."""
        raise NotImplementedError

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        """Let the rest of a state follow from arguments that hold against it.

        Args:
            ours: our part of the state, with the arguments in place; it may be changed.
            saved: the same as it was saved.
            changed: the arguments' names.
        """
        if "total_steps" in changed:
            ours["horizon"] = ours["length"]

    def _consequences(self, saved: dict[str, Any]) -> str:
        """Say in a message what has become of the schedule, against our part of a state."""
        if not isinstance(self._anchor, str) and not isinstance(saved["anchor"], str):
            return ""
        now, then = self._anchor_height(), self._height_of(saved)
        step = self._clock.elapsed
        return f"; at step {step} the schedule's height is {now:.4g} instead of {then:.4g}"

    def _height_of(self, saved: dict[str, Any]) -> float:
        """Return the schedule's height that our part of a state has."""
        anchor = saved["anchor"] if isinstance(saved["anchor"], str) else None
        step = saved["clock"]["elapsed"]
        return anchor_scale(anchor, step, saved["horizon"], saved["ramp_end"])
