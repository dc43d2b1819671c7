"""The GreedyLR rule: raise the rate while the loss improves, lower it while it does not.

One definition for every runtime: NumPy (Python numbers), torch and jax arrays. It is written
against the few functions that the three share under one name (`where`, `isfinite`, `stack`,
`cumsum`, `ones_like`, `asarray`), which come in as `xp`; every array has the shape of the runs,
`()` for one. `greedy_float` holds a branching transcription for one run on Python floats.

Sources: Subramanian & Ganapathiraman, "Zeroth Order GreedyLR" (2023); Subramanian,
Krishnamoorthy & Murthy, arXiv 2512.14527 (Algorithms 1-3, appendix A.7); transformers.GreedyLR.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ratewise.rules import significance
from ratewise.rules.greedy_config import RETREAT, ROUNDINGS, GreedyConfig, GreedyLimits
from ratewise.rules.significance import Evidence
from ratewise.rules.smoothing import Window, empty, keep, push

#: What a decision's integer code means.
REASONS = (
    "none",
    "increase",
    "decrease",
    "warmup",
    "cooldown",
    "reset",
    "clamped",
    "nonfinite",
)
#: Those between NONE and CLAMPED are changes of the rate.
NONE, INCREASE, DECREASE, WARMUP, COOLDOWN, RESET, CLAMPED, NONFINITE = range(8)


class GreedyState(NamedTuple):
    """What the rule remembers; O(window) numbers a run, whatever the run's length."""

    scale: tuple[Any, ...]  #: one a parameter group, multiplies its base rate
    ring: Window  #: the last finite metrics
    reference: Any  #: what the next smoothed metric is compared with
    known: Any  #: bool, whether `reference` holds anything yet
    good: Any  #: int, consecutive better metrics
    bad: Any  #: int, consecutive worse ones
    stage: Any  #: int, steps left of the stage: > 0 a warmup, < 0 a cooldown
    floored: Any  #: int, decreases that found every group at its lower bound
    reason: Any  #: int, index into REASONS: why the last update did what it did
    evidence: Evidence | None = None  #: of criterion="significance"; `reference` is its best mean


def init(config: GreedyConfig, *, groups: int = 1, zero: Any = None, xp: Any = np) -> GreedyState:
    """Return the state before the first metric.

    Args:
        config: the rule's settings.
        groups: number of parameter groups, each with a scale of its own.
        zero: an array of zeros that gives the runs' shape, float type and device;
            one run in float64 by default.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    zero = xp.asarray(0.0, dtype=xp.float64) if zero is None else zero
    none = xp.where(zero != 0, 1, 0)
    return GreedyState(
        scale=(zero + 1.0,) * groups,
        ring=empty(config.smoothing, zero, xp),
        reference=zero,
        known=zero != 0,
        good=none,
        bad=none,
        stage=none,
        floored=none,
        reason=none,
        evidence=significance.empty(config.window, zero, xp) if _tested(config) else None,
    )


def _tested(config: GreedyConfig) -> bool:
    return config.criterion == "significance"


def update(
    state: GreedyState,
    *,
    loss: Any,
    config: GreedyConfig,
    limits: GreedyLimits | None = None,
    xp: Any = np,
) -> GreedyState:
    """Return the state after one metric; ``state.scale`` is the decision.

    With m the rolling mean, r the reference, d = threshold * |r| (or threshold): m < r - d is
    better, m > r + d worse, and what lies between is worse (``plateau="bad"``) or nothing
    (``"neutral"``). More than `patience` better ones in a row divide the scale by `factor`,
    more than `patience` worse ones multiply it; a stage may follow either.

    Args:
        state: what `init` or the last `update` returned.
        loss: the metric, of the runs' shape; NaN and infinities are allowed.
        config: the rule's settings.
        limits: bounds of each group's scale; one group at 0.1 and 10 by default.
        xp: the array namespace of `state`.

    >>> config = GreedyConfig(factor=0.5, patience=1, window=1, reference="best", plateau="bad")
    >>> state = init(config)
    >>> for loss in (4.0, 3.0, 2.0, 1.0):
    ...     state = update(state, loss=loss, config=config)
    ...     print(float(state.scale[0]), REASONS[int(state.reason)])
    1.0 none
    1.0 none
    2.0 increase
    2.0 none
    """
    c, where = config, xp.where
    limits = GreedyLimits.relative(len(state.scale)) if limits is None else limits
    if getattr(loss, "dtype", None) != state.reference.dtype:
        loss = xp.asarray(loss, dtype=state.reference.dtype)

    # 1-2. Smooth. A metric that is not finite, or overflows the sum, never enters anything.
    mean, ring = push(state.ring, loss, window=c.smoothing, xp=xp)
    usable = xp.isfinite(mean)
    ring = keep(usable, ring, state.ring, xp)

    # 3. Compare and count. Without stages their part is left out: on a device each step counts.
    staged = c.warmup > 0 or c.cooldown > 0
    in_warmup, in_cooldown = (state.stage > 0, state.stage < 0) if staged else (False, False)
    in_stage = in_warmup | in_cooldown
    seen = usable & ~in_stage if staged and c.stage == "hold" else usable
    evidence = state.evidence
    if evidence is None:
        better, worse, reference = _compare(state, mean, seen, c, xp)
        known = state.known | seen
    else:
        evidence = significance.keep(seen, significance.push(evidence, mean, xp=xp), evidence, xp)
        verdict = significance.judge(evidence, state.reference, config=c, xp=xp)
        better, lost = seen & verdict.better, seen & verdict.lost
        worse = lost | (seen & verdict.worse)
        if c.plateau == "bad":
            worse = worse | (seen & verdict.full)
    worse = worse | ~usable
    good = where(better, state.good + 1, where(worse, 0, state.good))
    bad = where(worse, state.bad + 1, where(better, 0, state.bad))

    # 4. A stage runs: push on, or count nothing of one kind, or nothing at all.
    stage = state.stage
    if staged:
        stage = where(in_warmup, stage - 1, where(in_cooldown, stage + 1, stage))
        if c.stage == "hold":
            good, bad = where(in_stage, 0, good), where(in_stage, 0, bad)
        elif c.stage == "ignore":
            good, bad = where(in_warmup, 0, good), where(in_cooldown, 0, bad)

    # 5. Decide. "ignore" silences one direction only: the other may still decide (Algorithm 2).
    up, down = good > c.patience, bad > c.patience
    rise, fall = up, down
    if staged and c.stage == "extend":
        up, down = up & ~in_stage, down & ~in_stage
        rise, fall = up | in_warmup, down | in_cooldown
    good, bad = where(up, 0, good), where(down, 0, bad)
    if staged:
        stage = where(up, c.warmup, where(down, -c.cooldown, stage))
    retreat = None
    if evidence is not None:
        # A new stretch begins, also where something else has changed the rate.
        ended = (seen & verdict.given()) | up | down
        evidence, reference = significance.conclude(
            evidence, state.reference, verdict, ended, config=c, xp=xp
        )
        known = evidence.best_count > 0
        good = where(down, -1, good)  # the fall that a decrease brings about is no reason to rise
        retreat = lost & down

    # 6. Move each group within its bounds; a change too small to matter is not made.
    scale, moved, floored = [], xp.zeros_like(rise), xp.ones_like(rise)
    almost = 1.0 + ROUNDINGS * float(xp.finfo(state.reference.dtype).eps)
    for old, low, high, eps in zip(state.scale, *limits, strict=True):
        raised, lowered = old / c.factor, old * c.factor
        if retreat is not None and c.factor > RETREAT:
            lowered = where(retreat, old * RETREAT, lowered)
        raised = where(raised > high, high, raised)
        lowered = where(lowered < low, low, lowered)
        smallest = c.eps * old if c.eps_mode == "rel" else eps
        goes_up = rise & (raised - old > smallest)
        goes_down = fall & (old - lowered > smallest)
        new = where(goes_up, raised, where(goes_down, lowered, old))
        moved = moved | goes_up | goes_down
        floored = floored & (new <= low * almost)
        scale.append(new)
    count = where(up, 0, where(down & floored, state.floored + 1, state.floored))

    reason = where(usable, NONE, NONFINITE)
    reason = where(rise | fall, CLAMPED, reason)
    reason = where(moved & rise, where(up, INCREASE, WARMUP), reason)
    reason = where(moved & fall, where(down, DECREASE, COOLDOWN), reason)
    new_state = GreedyState(
        tuple(scale), ring, reference, known, good, bad, stage, count, reason, evidence
    )
    if c.reset_after is not None:
        reset = down & (count >= c.reset_after)
        new_state = _choose(reset, _after_reset(new_state, c, xp), new_state, xp)
    if c.on_nonfinite == "skip":
        skipped = state._replace(reason=where(usable, state.reason, NONFINITE))
        new_state = _choose(usable, new_state, skipped, xp)
    return new_state


def _compare(
    state: GreedyState, mean: Any, seen: Any, c: GreedyConfig, xp: Any
) -> tuple[Any, Any, Any]:
    """Return whether a smoothed metric is better, whether it is worse, and the new reference."""
    margin = c.threshold if c.threshold_mode == "abs" else c.threshold * abs(state.reference)
    below, above = mean < state.reference - margin, mean > state.reference + margin
    improved, worsened = (below, above) if c.mode == "min" else (above, below)
    better = seen & state.known & improved
    if c.first == "good":
        better = better | (seen & ~state.known)
    worse = seen & state.known & (worsened if c.plateau == "neutral" else ~improved)
    renew = seen if c.reference == "previous" else better | (seen & ~state.known)
    return better, worse, xp.where(renew, mean, state.reference)


def _after_reset(state: GreedyState, config: GreedyConfig, xp: Any) -> GreedyState:
    """Return a fresh state; as in transformers, a stage that holds follows even a reset."""
    zero = state.reference * 0.0
    fresh = init(config, groups=len(state.scale), zero=zero, xp=xp)
    stage = fresh.stage - config.cooldown if config.stage == "hold" else fresh.stage
    return fresh._replace(stage=stage, reason=fresh.reason + RESET)


def _choose(condition: Any, new: GreedyState, old: GreedyState, xp: Any) -> GreedyState:
    """Return `new` where `condition` holds and `old` elsewhere, field by field."""
    scale = tuple(xp.where(condition, a, b) for a, b in zip(new.scale, old.scale, strict=True))
    ring, evidence = keep(condition, new.ring, old.ring, xp), new.evidence
    if evidence is not None and old.evidence is not None:
        evidence = significance.keep(condition, evidence, old.evidence, xp)
    rest = {
        name: xp.where(condition, getattr(new, name), getattr(old, name))
        for name in ("reference", "known", "good", "bad", "stage", "floored", "reason")
    }
    return GreedyState(scale, ring, **rest, evidence=evidence)
