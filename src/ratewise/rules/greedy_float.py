"""The GreedyLR rule for one run on Python floats: `greedy.update` written out with branches.

A training loop calls this once a step, so it is kept to a few microseconds. It decides as
`greedy.update` does: the tests compare every field of the two after every metric.
"""

from __future__ import annotations

import math
from typing import Any

from ratewise.rules import schema
from ratewise.rules.greedy import (
    CLAMPED,
    COOLDOWN,
    DECREASE,
    INCREASE,
    NONE,
    NONFINITE,
    REASONS,
    RESET,
    WARMUP,
)
from ratewise.rules.greedy_config import RETREAT, GreedyConfig, GreedyLimits
from ratewise.rules.significance_float import (
    BETTER,
    EVIDENCE,
    FULL,
    LOST,
    OPEN,
    FloatEvidence,
    check_evidence,
)
from ratewise.rules.smoothing import FloatWindow, slots

#: What `FloatGreedy.state` must look like; `check_memory` has what depends on the settings.
MEMORY = {
    "scale": schema.several(schema.number(0.0)),
    "values": schema.several(schema.number()),
    "position": schema.count(),
    "count": schema.count(),
    "reference": schema.number(),
    "known": schema.flag,
    "good": schema.count(-1),
    "bad": schema.count(),
    "stage": schema.count(-schema.MOST),
    "floored": schema.count(),
    "reason": schema.count(0, len(REASONS) - 1),
    "evidence": schema.optional(schema.record(EVIDENCE)),
}


def check_memory(name: str, memory: dict[str, Any], config: GreedyConfig, groups: int) -> None:
    """Raise `InvalidState` unless a memory that fits `MEMORY` fits the settings, too.

    Args:
        name: of the memory.
        memory: what `FloatGreedy.state` returned.
        config: the settings.
        groups: number of parameter groups.
    """
    window, evidence = config.smoothing, memory["evidence"]
    if config.criterion == "significance":
        schema.require(evidence is not None, f"{name}['evidence']", "a dict", evidence)
        check_evidence(f"{name}['evidence']", evidence, config.window)
    else:
        schema.require(evidence is None, f"{name}['evidence']", "None", evidence)
        schema.require(memory["good"] >= 0, f"{name}['good']", "an integer >= 0", memory["good"])
    for field, length in (("scale", groups), ("values", slots(window))):
        legal = len(memory[field]) == length
        schema.require(legal, f"{name}[{field!r}]", f"{length} long", memory[field])
    for field, most in (("position", window - 1), ("count", window)):
        legal = memory[field] <= most
        schema.require(legal, f"{name}[{field!r}]", f"at most {most}", memory[field])


class FloatGreedy:
    """One run's rule: `update` a loss, read `scale`, one a parameter group.

    >>> rule = FloatGreedy(GreedyConfig(factor=0.5, patience=1, window=1), GreedyLimits.relative())
    >>> [(rule.update(loss), rule.scale[0])[1] for loss in (4.0, 3.0, 2.0, 1.0)]
    [1.0, 1.0, 2.0, 2.0]
    """

    __slots__ = (
        "bad",
        "config",
        "evidence",
        "floored",
        "good",
        "known",
        "limits",
        "reason",
        "reference",
        "ring",
        "scale",
        "stage",
    )

    def __init__(self, config: GreedyConfig, limits: GreedyLimits) -> None:
        self.config = config
        self.limits = limits
        self.scale = [1.0] * len(limits.lower)
        self.ring = FloatWindow(config.smoothing)
        self.evidence = FloatEvidence(config) if config.criterion == "significance" else None
        self.reason = NONE
        self._forget()

    def _forget(self) -> None:
        self.reference = 0.0
        self.known = False
        self.good = self.bad = self.stage = self.floored = 0
        if self.evidence is not None:
            self.evidence.clear()

    def update(self, loss: float) -> None:
        """Take one metric in and decide; the same steps, in the same order, as `greedy.update`."""
        c = self.config
        mean = self.ring.push(loss)
        stage = self.stage
        holding = stage != 0 and c.stage == "hold"
        verdict = OPEN

        if math.isfinite(mean):
            reason = NONE
            if holding:
                pass
            elif self.evidence is None:
                self._count(mean, c)
            else:
                verdict = self._judge(mean, c)
        elif c.on_nonfinite == "skip":
            self.reason = NONFINITE
            return
        else:
            reason = NONFINITE
            self.bad += 1
            self.good = 0

        if stage:
            self.stage = stage - 1 if stage > 0 else stage + 1
            if holding:
                self.good = self.bad = 0
            elif c.stage == "ignore":
                if stage > 0:
                    self.good = 0
                else:
                    self.bad = 0
            else:
                moved = self._move(stage > 0, c.factor)
                self.reason = CLAMPED if not moved else WARMUP if stage > 0 else COOLDOWN
                return

        if self.good > c.patience:
            reason = INCREASE if self._move(True, c.factor) else CLAMPED
            self.good = 0
            self.stage = c.warmup
            self.floored = 0
            self._end(verdict)
        elif self.bad > c.patience:
            retreat = verdict == LOST and c.factor > RETREAT
            reason = DECREASE if self._move(False, RETREAT if retreat else c.factor) else CLAMPED
            self.bad = 0
            self.stage = -c.cooldown
            if self.evidence is not None:
                self.good = -1  # the fall that a decrease brings about is no reason to rise
                self._end(verdict)
            if self.limits.reached(self.scale):
                self.floored += 1
                if c.reset_after is not None and self.floored >= c.reset_after:
                    reason = self._reset()
        self.reason = reason

    def _count(self, mean: float, c: GreedyConfig) -> None:
        """Compare a finite smoothed metric with the reference, and count."""
        reference = self.reference
        if not self.known:
            self.known = True
            self.reference = mean
            if c.first == "good":
                self.good += 1
                self.bad = 0
            return
        margin = c.threshold * abs(reference) if c.threshold_mode == "rel" else c.threshold
        if c.mode == "min":
            better, worse = mean < reference - margin, mean > reference + margin
        else:
            better, worse = mean > reference + margin, mean < reference - margin
        if better:
            self.good += 1
            self.bad = 0
            self.reference = mean
            return
        if worse or c.plateau == "bad":
            self.bad += 1
            self.good = 0
        if c.reference == "previous":
            self.reference = mean

    def _judge(self, loss: float, c: GreedyConfig) -> int:
        """Take a finite loss in as evidence, count a verdict, and return it."""
        evidence: Any = self.evidence
        evidence.push(loss)
        verdict = evidence.judge(self.reference)
        if verdict == OPEN:
            return OPEN
        if verdict == BETTER:
            self.good += 1
            self.bad = 0
        elif verdict != FULL or c.plateau == "bad":
            self.bad += 1
            self.good = 0
        self.reference = evidence.conclude(verdict, self.reference)
        self.known = bool(evidence.best)
        return int(verdict)

    def _end(self, verdict: int) -> None:
        """Begin a new stretch of losses where something else than a verdict has decided."""
        if verdict == OPEN and self.evidence is not None:
            self.reference = self.evidence.conclude(OPEN, self.reference)
            self.known = bool(self.evidence.best)

    def _move(self, rise: bool, factor: float) -> bool:
        """Move every group by a factor within its bounds; return whether any of them moved."""
        c, limits = self.config, self.limits
        relative = c.eps_mode == "rel"
        scale = self.scale
        moved = False
        for group, old in enumerate(scale):
            smallest = c.eps * old if relative else limits.eps[group]
            if rise:
                new = old / factor
                if new > limits.upper[group]:
                    new = limits.upper[group]
                change = new - old
            else:
                new = old * factor
                if new < limits.lower[group]:
                    new = limits.lower[group]
                change = old - new
            if change > smallest:
                scale[group] = new
                moved = True
        return moved

    def _reset(self) -> int:
        """Start afresh; as in transformers, a stage that holds follows even a reset."""
        self.restart()
        self.ring.clear()
        self._forget()
        if self.config.stage == "hold":
            self.stage = -self.config.cooldown
        return RESET

    def before(self) -> tuple[float, int, int]:
        """Return what the next metric meets: the reference (NaN if none), good, bad."""
        return self.reference if self.known else math.nan, self.good, self.bad

    def changed(self) -> bool:
        """Return whether the last update changed the rate."""
        return NONE < self.reason < CLAMPED

    def told(self, metric: float, reference: float) -> tuple[float, float, float]:
        """Return what is told of the last update: what was compared, with what, standard errors.

        Args:
            metric: that was taken in.
            reference: that it met, as `before` returned it.
        """
        found = self.evidence
        if found is None:
            return (self.ring.mean() if self.ring.count else metric), reference, 0.0
        if found.mean == found.before == found.errors == 0.0:  # no verdict, but what is not finite
            return metric, math.nan, 0.0
        return found.mean, found.before, found.errors

    def restart(self) -> None:
        """Put every scale back to 1."""
        self.scale = [1.0] * len(self.scale)

    def state(self) -> dict[str, Any]:
        """Return everything that the next decision depends on, as plain copied data."""
        return {
            "scale": list(self.scale),
            "values": self.ring.values(),
            "position": self.ring.position,
            "count": self.ring.count,
            "reference": self.reference,
            "known": self.known,
            "good": self.good,
            "bad": self.bad,
            "stage": self.stage,
            "floored": self.floored,
            "reason": self.reason,
            "evidence": None if self.evidence is None else self.evidence.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.scale = [float(x) for x in state["scale"]]
        self.ring.restore(state["values"], state["position"], state["count"])
        self.reference = float(state["reference"])
        self.known = bool(state["known"])
        for name in ("good", "bad", "stage", "floored", "reason"):
            setattr(self, name, int(state[name]))
        if self.evidence is not None:
            self.evidence.restore(state["evidence"])
