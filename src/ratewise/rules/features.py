"""The features of a training that a policy sees: scale-free numbers, built here alone.

One definition for NumPy, torch and jax arrays; every array has the runs' shape (none for one run).
The steps between two decisions are a window; what is observed are its mean loss and the steps in
it that were measured. A training with all its losses, weights or gradients multiplied by a
constant shows the same numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ratewise.rules.ratio_law import Outlook

#: What an observation is made of, in this order. A policy file names what it was trained on.
FEATURES = (
    "progress",  # share of the steps that are made, -1 to 1
    "horizon",  # ln(total_steps / 450) / 1.5
    "passes",  # ln of the passes over the data, / 2; -1 where they are not known
    "batch",  # ln(rows in a step / 32) / 1.5, of 8 to 128 rows; 0 where they are not known
    "level",  # ln of the window's mean loss over the first window's, / 2
    "change",  # ln of the window's mean loss over the fast average before it, * 4
    "trend",  # ln of the fast average over the slow one, * 2
    "fluctuation",  # (ln of the average size of a change, + 3) / 2
    "gradient",  # ln of the gradient's norm over its first, / 2
    "gradient-change",  # ln of the gradient's norm over the last window's
    "alignment",  # 2 * cosine between the negative gradient and the step, a mean over tensors
    "promise",  # (ln of the decrease to first order over the loss, + 5) / 2
    "growth",  # ln of the weights' norm over its first, * 2
    "action",  # the last one
)
#: Decays of the averages, a window.
FAST, SLOW, SIZE = 0.5, 0.9, 0.8
#: Rows in a step count as at least and at most so many: policies are learned on these.
ROWS = (8, 128)
#: No feature is larger than that.
MOST = 5.0
_TINY = 1e-12


class FeatureState(NamedTuple):
    """What is remembered of a run, in the runs' shape; a count of 0 means nothing yet."""

    first: Any  #: mean loss of the first window
    last: Any  #: and of the last
    fast: Any  #: averages over windows
    slow: Any
    changes: Any  #: average of |change|
    windows: Any  #: that had a loss
    gradient: Any  #: sums over the window's measurements: ln |g|,
    alignment: Any  #: the cosine,
    promise: Any  #: and ln of the decrease to first order
    seen: Any  #: measurements in the window
    means: Any  #: [3, ...] of the last window that had any
    first_gradient: Any  #: ln |g| of the first window
    looks: Any  #: windows that had a measurement
    size: Any  #: ln of the weights' norm at the last measurement,
    first_size: Any  #: and at the first
    action: Any  #: the last one


def horizon(total_steps: int) -> float:
    """Return the feature that a run's length is: about -1 to 2 from 100 to 8,000 steps.

    >>> round(horizon(100), 2), round(horizon(8000), 2)
    (-1.0, 1.92)
    """
    return math.log(total_steps / 450.0) / 1.5


def length(feature: float) -> int:
    """Return the length that a `horizon` stands for, in optimizer steps.

    >>> length(horizon(2000))
    2000
    """
    return round(450.0 * math.exp(1.5 * feature))


def beforehand(run: Outlook) -> tuple[float, float, float]:
    """Return the features that are known before a run begins: horizon, passes, batch.

    >>> beforehand(Outlook(450, 450, batch_size=32)), beforehand(Outlook(450))
    ((0.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    """
    passes = -1.0 if run.passes is None else math.log(run.passes) / 2.0
    rows = 32 if run.batch_size is None else min(max(run.batch_size, ROWS[0]), ROWS[1])
    batch = math.log(rows / 32.0) / 1.5
    return horizon(run.total_steps or 1), passes, batch


def init(zero: Any, *, xp: Any) -> FeatureState:
    """Return the state before the first step.

    Args:
        zero: an array of zeros of the runs' shape, float type and device.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    fields = dict.fromkeys(FeatureState._fields, zero)
    return FeatureState(**{**fields, "means": xp.stack([zero] * 3)})


def look(
    state: FeatureState,
    *,
    gradient: Any,
    alignment: Any,
    decrease: Any,
    size: Any,
    xp: Any,
) -> FeatureState:
    """Take in the measurements of a step; one that is not finite or missing is left out.

    Args:
        state: the last.
        gradient: |g| of all tensors together.
        alignment: the mean over tensors of cos(-g_i, d_i), with d_i the tensor's displacement.
        decrease: -sum <g_i, d_i> as applied: how far the loss falls, to first order.
        size: |p| of all tensors together.
        xp: the array namespace of `state`.
    """
    usable = xp.isfinite(gradient) & (gradient > 0) & xp.isfinite(decrease) & (size > 0)
    usable = usable & xp.isfinite(size)

    def added(total: Any, value: Any) -> Any:
        return total + xp.where(usable, value, 0.0)

    size = xp.where(usable, _log(size, xp), state.size)
    return state._replace(
        gradient=added(state.gradient, _log(gradient, xp)),
        alignment=added(state.alignment, alignment),
        promise=added(state.promise, _log(decrease, xp)),
        seen=state.seen + usable,
        size=size,
        first_size=xp.where((state.looks + state.seen) > 0, state.first_size, size),
    )


def of_tensors(
    *, gradient: Any, along: Any, moved: Any, before: Any, applied: Any, xp: Any
) -> dict[str, Any]:
    """Return what `look` takes of a step, from its tensors, each [tensors, ...].

    Args:
        gradient: |g_i|.
        along: <g_i, d_i>, with d_i a displacement before it is scaled.
        moved: |d_i|.
        before: |p_i|.
        applied: what d_i is multiplied by.
        xp: the array namespace.
    """
    lengths = gradient * moved
    part = lengths > 0
    cosine = xp.where(part, -along / xp.where(part, lengths, 1.0), 0.0).sum(0)
    count = part.sum(0)
    return {
        "gradient": xp.sqrt((gradient * gradient).sum(0)),
        "alignment": cosine / xp.where(count > 0, count, 1),
        "decrease": -(along * applied).sum(0),
        "size": xp.sqrt((before * before).sum(0)),
    }


def observe(
    state: FeatureState, loss: Any, *, step: int, run: Outlook, xp: Any
) -> tuple[Any, FeatureState]:
    """Close the window: return the features, [features, ...], and the state for the next one.

    Args:
        state: the last.
        loss: the window's mean; where it is not finite the last one stands.
        step: optimizer steps made.
        run: what is known of it; its length is.
        xp: the array namespace of `state`.

    >>> import numpy as np
    >>> state = init(np.zeros(()), xp=np)
    >>> features, state = observe(state, np.asarray(3.0), step=2, run=Outlook(4), xp=np)
    >>> dict(zip(FEATURES, features.round(2).tolist()))["progress"], float(state.first)
    (0.0, 3.0)
    """
    s, where = state, xp.where
    finite, known = xp.isfinite(loss), s.windows > 0
    mean = where(finite, xp.abs(loss), s.last)
    first = where(known, s.first, mean)
    change = _log(mean, xp) - _log(where(known, s.fast, mean), xp)
    fast = where(known, FAST * s.fast + (1 - FAST) * mean, mean)
    slow = where(known, SLOW * s.slow + (1 - SLOW) * mean, mean)
    more = s.windows > 1
    changes = where(more, SIZE * s.changes + (1 - SIZE) * xp.abs(change), xp.abs(change))

    seen, looked = s.seen > 0, s.looks > 0
    times = where(seen, s.seen, 1.0)
    now = xp.stack([s.gradient / times, s.alignment / times, s.promise / times])
    now = where(seen, now, s.means)
    first_gradient = where(looked, s.first_gradient, now[0])
    before = where(looked, s.means[0], now[0])
    zero = mean * 0.0
    features = xp.stack(
        [
            zero + (2.0 * step / (run.total_steps or 1) - 1.0),
            *(zero + feature for feature in beforehand(run)),
            (_log(mean, xp) - _log(first, xp)) / 2,
            change * 4,
            (_log(fast, xp) - _log(slow, xp)) * 2,
            (xp.log(changes + 1e-4) + 3) / 2,
            (now[0] - first_gradient) / 2,
            now[0] - before,
            now[1] * 2,
            (now[2] - _log(mean, xp) + 5) / 2,
            (s.size - s.first_size) * 2,
            s.action,
        ]
    )
    features = where(xp.isfinite(features), features, 0.0)
    features = where(features > MOST, MOST, features)
    features = where(features < -MOST, -MOST, features)
    return features, s._replace(
        first=first,
        last=mean,
        fast=fast,
        slow=slow,
        changes=changes,
        windows=s.windows + where(finite, 1.0, 0.0),
        gradient=zero,
        alignment=zero,
        promise=zero,
        seen=zero,
        means=now,
        first_gradient=first_gradient,
        looks=s.looks + where(seen, 1.0, 0.0),
    )


def _log(value: Any, xp: Any) -> Any:
    return xp.log(xp.where(value > _TINY, value, _TINY))
