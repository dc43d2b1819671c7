"""The update-ratio rule: hold each tensor's ||dp|| / ||p|| at a ratio, from any starting rate.

One definition for NumPy, torch and jax arrays, as in `ratewise.rules.greedy`: it is written against
the functions that the three share under one name, which come in as `xp`. The first axis of every
array is the units that are steered (tensors, groups of them, or one for all).

Schedules cancel: where the step is a multiple of the rate, schedule and rate lie in the wanted and
in the measured displacement alike. So the rule knows neither; it compares `unit`, the relative
displacement that a factor of 1 would give at the schedule's full height, with `ratio`.

Variants in the literature, and this one:

- LARS (You et al. 2017) and LAMB (2020) make every displacement the rate times ||p||, with no
  memory (`gain` = 1): the rate still has to be found. Where ||p|| is 0 they do nothing of it.
- Fromage (Bernstein et al. 2020) does the same and shrinks the result by 1 / sqrt(1 + rate^2).
- Prodigy, D-Adaptation and DoG estimate one distance for all tensors.
- Here the factor remembers: it moves by a power of what is missing (in logarithms that is an
  exponential mean over about 1 / gain decisions), so that a batch with small gradients still
  makes a small step. How fast it moves is bounded, and no step that is measured exceeds `cap`
  times `ratio`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ratewise.errors import invalid
from ratewise.rules.checks import is_number

#: The typical size of a weight where every matrix is zero at first.
LEAST_RMS = 0.01
#: The first steps are all measured: momentum builds up, and the factors come from far off.
EARLY = 50
#: After them, one step in so many unless something else is said.
EVERY = 10
#: The largest bound of a factor: float32 holds it, and what it is multiplied by.
LARGEST = 1e30
#: Below this share of its height a schedule is not measured: displacements drown in rounding.
QUIET = 1e-3


@dataclass(frozen=True)
class UpdateRatioConfig:
    """Settings of the rule; every one is explained at `ratewise.UpdateRatioLR`.

    >>> UpdateRatioConfig(ratio=-1.0)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: ratio must be a number in (0, 1], got -1.0: pass e.g. 0.01
    """

    ratio: float = 0.01
    gain: float = 0.5
    start: float = 0.3
    rise: float = 1.3
    fall: float = 2.0
    cap: float = 2.0
    floor: float = 1.0
    reach: float = 3.0
    low: float = 1e-8
    high: float = 1e8

    def __post_init__(self) -> None:
        for name, fix in (("ratio", "0.01"), ("gain", "1 for no memory"), ("start", "0.1")):
            value = getattr(self, name)
            if not (is_number(value) and 0.0 < value <= 1.0):
                raise invalid(name, "a number in (0, 1]", value, f"pass e.g. {fix}")
        for name in ("rise", "fall"):
            value = getattr(self, name)
            if not (is_number(value) and value > 1.0):
                raise invalid(name, "a number > 1", value, "pass math.inf for no limit")
        if not (is_number(self.cap) and self.cap >= 1.0):
            raise invalid("cap", "a number >= 1", self.cap, "pass math.inf for no limit")
        if not (is_number(self.floor) and 0.0 < self.floor < math.inf):
            raise invalid("floor", "a finite number > 0", self.floor, "pass e.g. 1.0")
        if not (is_number(self.reach) and self.reach >= 1.0):
            raise invalid("reach", "a number >= 1", self.reach, "pass math.inf for no limit")
        bounds = (self.low, self.high)
        if not (all(map(is_number, bounds)) and 0.0 < self.low < self.high <= LARGEST):
            fix = "pass e.g. (1e-8, 1e8)"
            raise invalid(
                "bounds", f"two finite numbers, 0 < low < high <= {LARGEST:g}", bounds, fix
            )


class UpdateRatioState(NamedTuple):
    """What the rule remembers: a number a unit, and one for all."""

    factor: Any  #: [units] what a displacement is multiplied by; 0 before the first decision
    settled: Any  #: [units] the factor at the last decision of the first `EARLY` steps
    typical: Any  #: () rms of the model's weights at the first decision; 0 before it


def init(units: int, *, zero: Any = None, xp: Any = np) -> UpdateRatioState:
    """Return the state before the first decision: nothing moves until something was measured.

    Args:
        units: how many tensors, or groups of them, have a factor of their own.
        zero: an array of zeros that gives the runs' shape, float type and device;
            one run in float64 by default.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    zero = xp.asarray(0.0, dtype=xp.float64) if zero is None else zero
    factor = xp.stack([zero] * units) if units else xp.zeros((0,), dtype=zero.dtype)
    return UpdateRatioState(factor, factor, zero)


def measures(steps: int, every: int) -> bool:
    """Return whether the step after so many is measured: each of the first, then one in `every`.

    >>> [measures(steps, every=10) for steps in (0, 49, 50, 51, 60)]
    [True, True, True, False, True]
    """
    return steps < EARLY or steps % every == 0


def typical_rms(norms: Any, sizes: Any, matrices: Any, *, xp: Any = np) -> Any:
    """Return the size of a model's typical weight: a geometric mean, weighted by elements.

    ``exp(sum n_i ln(||p_i|| / sqrt(n_i)) / sum n_i)`` over the tensors with two dimensions or more
    that are not zero, `LEAST_RMS` if there are none. Unlike a root mean square it is not drowned
    by one embedding, and unlike a mean over all tensors not by the ones of a layer norm.

    Args:
        norms: [tensors] Frobenius norms, >= 0.
        sizes: [tensors] numbers of elements.
        matrices: [tensors] bool, whether a tensor has two dimensions or more.
        xp: the array namespace.

    >>> norms, sizes = np.array([3.0, 0.0, 9.0]), np.array([9.0, 4.0, 9.0])
    >>> float(typical_rms(norms, sizes, np.array([True, True, False])))
    1.0
    """
    seen = matrices & (norms > 0) & xp.isfinite(norms)
    weight = xp.where(seen, sizes, 0.0)
    logarithms = xp.log(xp.where(seen, norms, 1.0)) - 0.5 * xp.log(sizes)
    total = weight.sum(0)
    mean = (weight * logarithms).sum(0) / xp.where(total > 0, total, 1.0)
    return xp.where(total > 0, xp.exp(mean), LEAST_RMS)


def floored(norms: Any, sizes: Any, typical: Any, *, floor: float, xp: Any = np) -> Any:
    """Return the norms that displacements are compared with: not below that of typical weights.

    ``max(||p_i||, floor * typical * sqrt(n_i))``: a tensor that begins at zero (a bias, a head,
    LoRA's B) would otherwise never move, and one that is far smaller than the rest only slowly.
    """
    return xp.maximum(norms, floor * typical * sizes**0.5)


def update(
    state: UpdateRatioState,
    *,
    unit: Any,
    config: UpdateRatioConfig,
    steps: Any = 1,
    early: Any = True,
    xp: Any = np,
) -> tuple[Any, UpdateRatioState]:
    r"""Return the factors for the step that was measured, and the state with those to keep.

    With :math:`u` the unit displacement and :math:`w = \mathrm{ratio} / u` the factor wanted,

    .. math:: f \leftarrow \mathrm{clip}\bigl(f \, (w / f)^{\mathrm{gain}},
              f / \mathrm{fall}^{\mathrm{steps}}, f \, \mathrm{rise}^{\mathrm{steps}}\bigr),

    within [low, high], and after the first `EARLY` steps not above reach times what it had become
    by then, from :math:`f = \mathrm{start} \cdot w` at the first decision; the measured
    step itself takes :math:`\min(f, \mathrm{cap} \cdot w)`. With the applied ratio
    :math:`r = f u`, w / f is the familiar ratio / r.

    A unit that did not move, or not by a finite number, keeps its factor.

    Args:
        state: what `init` or the last `update` returned.
        unit: [units] ||dp|| / max(||p||, floor) of a step with a factor of 1 at the schedule's
            full height; 0 where nothing was measured.
        config: the rule's settings.
        steps: optimizer steps since the last decision, >= 1: limits are per step. A number, or
            in compiled code an array.
        early: this is one of the first `EARLY` steps; a bool, or an array.
        xp: the array namespace of `state`.

    >>> config = UpdateRatioConfig(ratio=0.01, gain=1.0, start=0.1, rise=2.0)
    >>> state = init(1)
    >>> ratios = []
    >>> for _ in range(5):
    ...     applied, state = update(state, unit=np.array([0.1]), config=config)
    ...     ratios.append(round(float(applied[0]) * 0.1, 4))
    >>> ratios
    [0.001, 0.002, 0.004, 0.008, 0.01]
    """
    c, where = config, xp.where
    factor = state.factor
    usable = xp.isfinite(unit) & (unit > 0)
    wanted = c.ratio / where(usable, unit, 1.0)
    usable = usable & xp.isfinite(wanted)
    known = factor > 0
    old = where(known, factor, 1.0)
    moved = old * (wanted / old) ** c.gain
    highest, lowest = old * _power(c.rise, steps), old * _power(c.fall, -steps)
    moved = where(moved > highest, highest, moved)
    moved = where(moved < lowest, lowest, moved)
    new = where(known, moved, c.start * wanted)
    new = where(new < c.low, c.low, new)
    new = where(new > c.high, c.high, new)
    settled = state.settled
    if early is not True:
        late = True if early is False else ~early
        highest = c.reach * settled
        new = where(late & (settled > 0) & (new > highest), highest, new)
    new = where(usable, new, factor)
    # A unit that was not measured in the first steps settles at its first decision.
    settled = where(usable & (early | (settled <= 0)), new, settled)
    most = c.cap * wanted
    applied = where(usable & (new > most), most, new)
    return applied, UpdateRatioState(new, settled, state.typical)


def _power(limit: float, steps: Any) -> Any:
    """Return a limit over so many steps; one too large for a float is none."""
    if not isinstance(steps, int):
        return (steps * 0.0 + limit) ** steps
    try:
        return float(limit**steps)
    except OverflowError:
        return math.inf
