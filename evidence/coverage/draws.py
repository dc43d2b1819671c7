"""Losses are drawn, capped and compared, and each interval is asked whether it holds the truth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from evidence.coverage.plan import (
    BOOTSTRAP,
    LEARNED,
    PLAIN,
    SEEDS,
    SETS,
    SKEWED,
    TASKS,
    UNEQUAL,
    Design,
    Settings,
    Unit,
    World,
)
from ratewise.compare.statistics import (
    CAP,
    ENOUGH_SETS,
    LEVEL,
    Bounds,
    divergence_p,
    order_bounds,
    pooled_bounds,
    t_bounds,
)

#: Draws of a percentile bootstrap.
RESAMPLES = 400
#: A truth of ln(ratio) that is smaller counts as 0.
SMALL = 0.002
#: Repetitions drawn at once.
CHUNK = 500


class Errors(NamedTuple):
    """How often an interval erred, as shares of the repetitions."""

    missed: float  #: it does not hold the truth, of those that have an interval
    false: float  #: it lies wholly on the side of 0 where the truth is not
    decided: float  #: it lies wholly on one side of 0
    without: float  #: there is none
    width: float  #: the median, on the log scale


class Level(NamedTuple):
    """Intervals over tasks, or over data sets."""

    bounds: Bounds
    truth: float


class Drawn(NamedTuple):
    """Runs of both methods, [repetition, task, seed, column]."""

    ratios: np.ndarray  #: capped, ln of ours over theirs
    diverged: np.ndarray  #: [2, ...], ours and theirs


def simulate(unit: Unit, settings: Settings) -> Errors:
    """Return how often the intervals of a design err in a world."""
    rng = np.random.default_rng([settings.seed, *str(unit).encode()])
    count = settings.control if unit.way == BOOTSTRAP else settings.repetitions
    starts = range(0, count, CHUNK)
    chunks = [draw(unit.design, unit.world, min(CHUNK, count - i), rng) for i in starts]
    ratios = [one.ratios for one in chunks]
    if unit.way == BOOTSTRAP:
        return _errors([_bootstrap(unit.design, ratios, rng)])
    if unit.design.of_seeds:
        return _of_seeds(unit, chunks)
    return _errors(_levels(unit, ratios))


def draw(design: Design, world: World, count: int, rng: np.random.Generator) -> Drawn:
    """Return the runs of as many repetitions."""
    tasks, of_set = sum(design.sets), np.repeat(np.arange(len(design.sets)), design.sets)
    sizes = _ladder(tasks, world)
    effect = np.zeros((count, tasks, 1, 1))
    if tasks > 1:  # what a cell is about is itself
        between = (
            SETS
            * _ladder(len(design.sets), world)
            * _scatter((count, len(design.sets)), world, rng)
        )
        within = TASKS * sizes * _scatter((count, tasks), world, rng)
        effect += (between[:, of_set] + within)[..., None, None]
    shape = (count, tasks, design.seeds, design.columns)
    top = math.log(CAP / LEARNED)
    losses = []
    for side, share in ((0.5, world.diverged[0]), (-0.5, world.diverged[1])):
        alike = world._replace(lopsided=world.lopsided and tasks == 1 and side > 0)
        noise = SEEDS * sizes[:, None, None] * _scatter(shape, alike, rng)
        loss = np.minimum(side * effect + noise, top)
        if share:
            risk = np.where(np.arange(tasks) % 4 == 0, 4 * share, 0.0) if tasks > 1 else share
            loss[rng.random(shape) < np.reshape(risk, (-1, 1, 1))] = top
        losses.append(loss)
    return Drawn(losses[0] - losses[1], np.stack([loss == top for loss in losses]))


def _ladder(count: int, world: World) -> np.ndarray:
    """Return how much each scatters, as multiples; the middle of them is 1."""
    if not world.unequal or count == 1:
        return np.ones(count)
    return np.geomspace(UNEQUAL**-0.5, UNEQUAL**0.5, count)


def _scatter(shape: tuple[int, ...], world: World, rng: np.random.Generator) -> np.ndarray:
    """Return values of mean 0 and variance 1."""
    if world.lopsided:
        return 1.0 - rng.standard_exponential(shape)
    if world.tails is None:
        return rng.standard_normal(shape)
    return rng.standard_t(world.tails, shape) / math.sqrt(world.tails / (world.tails - 2))


def _of_seeds(unit: Unit, chunks: list[Drawn]) -> Errors:
    """Return how often what is said of one task errs; runs that diverge alone leave no interval.

    What an interval is about are the other repetitions. Of a cell without one the numbers of seeds
    that diverged decide: falsely where both methods diverge as often.
    """
    rows = np.concatenate([_rows(unit.design, one.ratios[:, 0]) for one in chunks])
    diverged = np.concatenate([one.diverged[:, :, 0] for one in chunks], 1)
    alone = (diverged[0] != diverged[1]).any((-1, -2))
    found = _errors([_level(t_bounds, rows[~alone], unit.world)])
    without = float(alone.mean())
    false, decided = ((1 - without) * share for share in (found.false, found.decided))
    if unit.design.kind == "cell":
        ours, theirs = diverged.any(-1).sum(-1)
        counts = range(unit.design.seeds + 1)
        p = np.array([[divergence_p(a, b, counts[-1]) for b in counts] for a in counts])
        by_counts = alone & (p[ours, theirs] <= 1 - LEVEL)
        right = by_counts & (ours < theirs) if np.diff(unit.world.diverged) > 0 else False
        decided += float(by_counts.mean())
        false += float((by_counts & ~np.asarray(right)).mean())
    return Errors(found.missed, false, decided, without, found.width)


def _levels(unit: Unit, ratios: list[np.ndarray]) -> list[Level]:
    """Return the intervals over tasks and, where they share few, over data sets."""
    design, world = unit.design, unit.world
    if sum(design.sets) == 1:
        return [_level(t_bounds, np.concatenate([_rows(design, x[:, 0]) for x in ratios]), world)]
    pooled = _POOLED[unit.way]
    values = np.concatenate([_values(design, x) for x in ratios])
    fine = _level(order_bounds if design.kind == "median" else pooled, values, world)
    if len(design.sets) == sum(design.sets):
        return [fine]
    centre = np.median if design.kind == "median" else np.mean
    parts = itertools.pairwise(np.cumsum((0, *design.sets)))
    of_sets = np.stack([centre(values[:, a:b], axis=1) for a, b in parts], 1)
    coarse = _level(pooled, of_sets, world)
    if len(design.sets) >= ENOUGH_SETS:
        return [coarse]
    if design.kind != "median":
        return [fine, coarse]
    low, high = np.minimum(fine[0].low, coarse[0].low), np.maximum(fine[0].high, coarse[0].high)
    return [Level(fine.bounds._replace(low=low, high=high), fine.truth)]


def _rows(design: Design, x: np.ndarray) -> np.ndarray:
    """Return a value a seed, [repetition, seed]: a mean, or the slope over three sizes."""
    weights = np.array([-0.5, 0.0, 0.5]) if design.name.startswith("slope") else None
    return x.mean(-1) if weights is None else x @ weights


def _values(design: Design, x: np.ndarray) -> np.ndarray:
    """Return a value a task, [repetition, task]."""
    flat = x.reshape(*x.shape[:2], -1)
    if design.kind == "share":
        return (flat < 0).mean(-1) - 0.5
    return np.asarray(np.median(flat, -1) if design.kind == "median" else flat.mean(-1))


def _level(bounds: Callable[[np.ndarray], Bounds], x: np.ndarray, world: World) -> Level:
    """Return intervals of [repetition, unit], and what they should hold."""
    symmetric = not world.lopsided and world.diverged[0] == world.diverged[1]
    middle = np.median if bounds is order_bounds else np.mean
    return Level(bounds(x), 0.0 if symmetric else float(middle(x)))


def skewed_bounds(x: np.ndarray) -> Bounds:
    """Return the wider of t's interval and the one that is corrected for skewness.

    Source: Hall 1992, Journal of the Royal Statistical Society B 54, 221-228.
    """
    plain, n = t_bounds(x), x.shape[-1]
    deviations = x - x.mean(-1, keepdims=True)
    scale = x.std(-1, ddof=1)
    third = (deviations**3).mean(-1) / scale**3 / 3.0
    third = np.where(np.abs(third) < 1e-9, 1e-9, third)
    root = math.sqrt(n)

    def untransformed(t: np.ndarray) -> np.ndarray:
        shifted = 1.0 + 3.0 * third * (t - third / (2.0 * root)) / root
        return np.asarray(root / third * (np.cbrt(shifted) - 1.0))

    error = scale / root
    t = (plain.high - plain.estimate) / error
    low, high = (plain.estimate - error * untransformed(side) for side in (t, -t))
    return plain._replace(low=np.minimum(plain.low, low), high=np.maximum(plain.high, high))


#: Of means over tasks or data sets, by the way of a unit.
_POOLED = {"": pooled_bounds, PLAIN: t_bounds, SKEWED: skewed_bounds}


def _errors(levels: list[Level]) -> Errors:
    """Return how often the wider of the intervals errs."""
    widths = [level.bounds.high - level.bounds.low for level in levels]
    followed = np.argmax(np.stack(widths), 0)

    def of(values: list[np.ndarray]) -> np.ndarray:
        return np.take_along_axis(np.stack(values), followed[None], 0)[0]

    low, high = of([x.bounds.low for x in levels]), of([x.bounds.high for x in levels])
    truth = of([np.full(len(followed), x.truth) for x in levels])
    below, above = high < 0, low > 0
    wrong = (above & (truth < SMALL)) | (below & (truth > -SMALL))
    missed = (truth < low) | (truth > high)
    shares = [float(x.mean()) for x in (missed, wrong, below | above)]
    return Errors(shares[0], shares[1], shares[2], 0.0, float(np.median(high - low)))


def _bootstrap(design: Design, chunks: list[np.ndarray], rng: np.random.Generator) -> Level:
    """Return what was printed before: quantiles of resampled tasks, and of seeds within them."""
    found = [percentile_bootstrap(x, design.kind, rng) for x in chunks]
    low, high = (np.concatenate(side) for side in zip(*found, strict=True))
    return Level(Bounds((low + high) / 2, low, high, np.ones(len(low))), 0.0)


def percentile_bootstrap(
    x: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of a percentile bootstrap, of the mean of a cell and of a median of all.

    Args:
        x: log-ratios, [repetition, task, seed, column].
        kind: "cell" or "median".
        rng: draws the resamples.
    """
    count, tasks, seeds, _ = x.shape
    statistic = np.mean if kind == "cell" else np.median
    drawn = np.empty((RESAMPLES, count))
    for i in range(RESAMPLES):
        task = rng.integers(tasks, size=(count, tasks, 1))
        seed = rng.integers(seeds, size=(count, tasks, seeds))
        picked = x[np.arange(count)[:, None, None], task, seed]
        drawn[i] = statistic(picked.reshape(count, -1), axis=-1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return low, high
