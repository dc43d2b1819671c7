"""Plans: the rate of every step of a training to come, in a file of JSON that anyone can read.

A plan has knots (step, rate) with straight lines between them, and says where it came from and
what loss it was forecast to end at. Steps are an optimizer's, and the first is 1: the rate at a
step is the one that the step is made with. A file may come from anybody, so it is data to be
checked: its size, each field against a declared table, and a digest of what it says. The digest
finds damage; it is no signature.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratewise.errors import CorruptPlan, InvalidArgument, InvalidState, invalid, wrong_type
from ratewise.files import contents, writing
from ratewise.rules import schema
from ratewise.rules.policy_files import plain

#: Of the file; another one is refused.
FORMAT = 1
#: Steps of a training, knots of a plan, and bytes of its file: what is more is damage.
MOST_STEPS, MOST_KNOTS, MOST_BYTES = 10_000_000, 100_000, 1 << 23
_FIX = "pass a file that `ratewise forecast --plan` has written"
_FORECAST = schema.optional(
    schema.record(
        {
            "which": schema.choice("held_out", "train"),
            "loss": schema.number(),
            "low": schema.number(),
            "high": schema.number(),
            "level": schema.number(0.0, 1.0),
        }
    )
)
_TABLE = {
    "format": schema.choice(FORMAT),
    "digest": schema.text,
    "total_steps": schema.count(1, MOST_STEPS),
    "knots": schema.several(schema.row(schema.count(1, MOST_STEPS), schema.rate), most=MOST_KNOTS),
    "forecast": _FORECAST,
    "provenance": plain,
}


@dataclass(frozen=True)
class Plan:
    """The rates of a training.

    Args:
        knots: (step, rate): steps rise from 1 on, rates are finite, >= 0 and not all 0.
        provenance: where it came from; plain data on which nothing depends.
        forecast: the loss that the training is to end at, as `ratewise forecast` writes it.

    Raises:
        InvalidArgument: knots that are none.

    >>> plan = Plan(((1, 0.0), (3, 1.0), (7, 0.0)))
    >>> [plan.rate(step) for step in (1, 2, 3, 4, 7, 9)]
    [0.0, 0.5, 1.0, 0.75, 0.0, 0.0]
    """

    knots: tuple[tuple[int, float], ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    forecast: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        fix = "pass e.g. ((1, 0.0), (100, 3e-4), (1000, 0.0))"
        try:
            knots = [[step, rate] for step, rate in self.knots]
            _TABLE["knots"]("knots", knots)
        except (TypeError, ValueError) as error:
            raise invalid("knots", "pairs of a step and a rate", self.knots, fix) from error
        steps = [step for step, _ in knots]
        if not steps or steps[0] != 1 or any(b <= a for a, b in itertools.pairwise(steps)):
            raise invalid("knots", "at steps that rise from 1 on", steps[:5], fix)
        if not max(rate for _, rate in knots) > 0:
            raise invalid("knots", "with a rate above 0", "none", fix)
        object.__setattr__(self, "knots", tuple((step, float(rate)) for step, rate in knots))

    @property
    def total_steps(self) -> int:
        """The length of the training in optimizer steps."""
        return self.knots[-1][0]

    @cached_property
    def peak_lr(self) -> float:
        """The highest rate."""
        return max(rate for _, rate in self.knots)

    @cached_property
    def _steps(self) -> list[int]:
        return [step for step, _ in self.knots]

    def rate(self, step: float) -> float:
        """Return the rate that a step is made with; before and after the plan its ends hold.

        Args:
            step: of the optimizer, the first is 1; between two steps it is on the line.
        """
        right = bisect.bisect_left(self._steps, step)
        if right == len(self.knots):
            return self.knots[-1][1]
        (end, high), (begin, low) = self.knots[right], self.knots[max(0, right - 1)]
        if right == 0 or step == end:
            return high
        return low + (high - low) * ((step - begin) / (end - begin))

    def rates(self) -> NDArray[np.float64]:
        """Return the rates of the steps 1, 2, ..., `total_steps`."""
        steps, rates = np.array(self.knots).T
        return np.interp(np.arange(1, self.total_steps + 1), steps, rates)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that change with anything that the plan says."""
        said = json.dumps(self._said(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def _said(self) -> dict[str, Any]:
        return {
            "total_steps": self.total_steps,
            "knots": [list(knot) for knot in self.knots],
            "forecast": None if self.forecast is None else dict(self.forecast),
            "provenance": dict(self.provenance),
        }


def from_rates(rates: ArrayLike, *, tolerance: float = 1e-4, **about: Any) -> Plan:
    """Return a plan with few knots that comes near rates.

    Args:
        rates: of the steps 1, 2, ...
        tolerance: the most that a rate may be off, as a share of the highest; 0 is exact.
        **about: provenance and forecast, as `Plan` takes them.

    Raises:
        InvalidArgument: rates that are not finite, negative, or all 0.

    >>> from_rates([1.0, 1.0, 1.0, 0.5, 0.0]).knots
    ((1, 1.0), (3, 1.0), (5, 0.0))
    """
    values = np.asarray(rates, np.float64)
    sound = values.ndim == 1 and len(values) and np.isfinite(values).all()
    if not sound or values.min() < 0 or values.max() <= 0:
        raise invalid("rates", "finite, >= 0 and not all 0", rates, "pass the rate of each step")
    within = tolerance * float(values.max())
    keep, open_parts = {0, len(values) - 1}, [(0, len(values) - 1)]
    while open_parts:  # Ramer, Douglas and Peucker, by vertical distance
        begin, end = open_parts.pop()
        if end - begin < 2:
            continue
        share = np.arange(1, end - begin) / (end - begin)
        line = values[begin] + (values[end] - values[begin]) * share
        off = np.abs(values[begin + 1 : end] - line)
        if off.max() > within:
            middle = begin + 1 + int(off.argmax())
            keep.add(middle)
            open_parts += [(begin, middle), (middle, end)]
    return Plan(tuple((at + 1, float(values[at])) for at in sorted(keep)), **about)


def write(path: str | Path, plan: Plan) -> None:
    """Write a plan's file, whole or not at all.

    Raises:
        CannotWrite: the file system refused, or there is no room.
    """
    said = {"format": FORMAT, "digest": plan.digest, **plan._said()}
    knots = ",\n  ".join(json.dumps(knot) for knot in said.pop("knots"))
    rest = json.dumps(said, indent=1)[:-2]
    writing.write(path, f'{rest},\n "knots": [\n  {knots}\n ]\n}}\n')


def read(path: str | Path) -> Plan:
    """Return the plan of a file.

    Raises:
        CorruptPlan: no plan, damaged, or of another format.
    """
    try:
        said = json.loads(contents.contents(Path(path), MOST_BYTES), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = contents.shown(error, 120)
        raise CorruptPlan(f"{path} is no plan, or is damaged ({what}): {_FIX}") from error
    try:
        if isinstance(said, dict) and said.get("format") != FORMAT:
            found = contents.shown(said.get("format"), 40)
            raise CorruptPlan(
                f"{path} has format {found}, this version reads {FORMAT}: {_FIX}, or install the "
                "ratewise that wrote it"
            )
        schema.record(_TABLE)("plan", said)
        knots = tuple((step, float(rate)) for step, rate in said["knots"])
        plan = Plan(knots, said["provenance"], said["forecast"])
        digest, length = plan.digest, plan.total_steps
    except InvalidState as error:
        reason = str(error).rpartition(": ")[0]
        raise CorruptPlan(f"{path} does not fit ({reason}): {_FIX}") from error
    except (InvalidArgument, RecursionError) as error:
        raise CorruptPlan(f"{path} does not fit ({contents.shown(error)}): {_FIX}") from error
    if said["total_steps"] != length:
        raise CorruptPlan(
            f"{path} has total_steps {said['total_steps']}, its last knot is at {length}: {_FIX}"
        )
    if said["digest"] != digest:
        raise CorruptPlan(
            f"{path} is not what was written (digest {digest}, not "
            f"{contents.shown(said['digest'], 16)!r}): take it anew from where it came from; who "
            "changes a plan by hand writes it with ratewise.rules.plan.write"
        )
    return plan


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def opened(plan: Any) -> Plan:
    """Return a plan, or that of a file.

    Raises:
        WrongType: it is neither.
        CorruptPlan: as `read`.
    """
    if isinstance(plan, Plan):
        return plan
    if not isinstance(plan, str | Path):
        raise wrong_type("plan", "a path or a Plan", plan, "pass 'plan.json'")
    return read(plan)


#: What may be done where a plan is of another length than the run.
OTHER_LENGTH = ("refuse", "stretch", "keep")


@dataclass(frozen=True)
class Height:
    """A plan's rate over its highest, for a run that may be of another length.

    Args:
        plan: the plan.
        total_steps: the run's length in optimizer steps.
        other_length: "stretch" maps the run's steps onto the plan's; "keep" takes them as they
            are; "refuse" does so where both have one length.

    Raises:
        InvalidArgument: the lengths differ, and that was not said to be right.
    """

    plan: Plan
    total_steps: int
    other_length: str = "refuse"

    def __post_init__(self) -> None:
        if self.other_length == "refuse" and self.total_steps != self.plan.total_steps:
            raise InvalidArgument(
                f"the plan is for {self.plan.total_steps} steps, the run has {self.total_steps}: "
                "make a plan for that length (ratewise forecast --total-steps), or pass "
                "other_length='stretch' to spread it over the run, or 'keep' to take its steps as "
                "they are"
            )

    def __call__(self, step: int) -> float:
        """Return the height that a step is made with, after `step` others.

        >>> plan = Plan(((1, 2.0), (5, 0.0)))
        >>> [Height(plan, 9, "stretch")(step) for step in (0, 1, 4, 8)]
        [1.0, 0.875, 0.5, 0.0]
        """
        at: float = step + 1
        if self.other_length == "stretch" and self.total_steps > 1:
            at = 1 + step * ((self.plan.total_steps - 1) / (self.total_steps - 1))
        return self.plan.rate(at) / self.plan.peak_lr
