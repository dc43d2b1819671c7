"""Fits and forecasts of published curves, and what is kept of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import metadata

import numpy as np

from evidence.past_runs import plan
from evidence.past_runs.plan import Run, Settings, Unit
from evidence.results import Result
from ratewise.curves import Curve, LossLaw, Series, fit
from ratewise.curves.curve import Floats
from ratewise.errors import InvalidArgument

#: Draws of few past runs begin at this seed.
_FEW = 5000


def made(settings: Settings, data: str | None, unit: Unit) -> list[Result]:
    """Return what is kept of a unit; what `losses` holds stands in the functions below."""
    work = {
        "shapes": shapes, "lengths": lengths, "suggestions": suggestions, "covered": covered,
        "begun": begun,
    }  # fmt: skip
    return work[unit.kind](settings, data, unit.what)


def _kept(
    task: str, method: str, setting: str, seed: int, role: str, steps: int,
    losses: Sequence[float], seconds: float,
) -> Result:  # fmt: skip
    versions = {name: metadata.version(name) for name in ("numpy", "scipy")}
    numbers = [float(x) for x in losses]
    return Result(task, method, setting, seed, role, steps, numbers, seconds, json.dumps(versions))


def shapes(settings: Settings, data: str | None, name: str) -> list[Result]:
    """Return each law's mean and worst relative error on each curve, over all its points."""
    curves, found = plan.shapes(name, data), []
    for law in settings.laws:
        start = time.process_time()
        seen = [curves[one] for one in plan.FITTED]
        done = fit(seen, law=law, seed=settings.seed, most_points=settings.points)
        seconds = time.process_time() - start
        for one, curve in curves.items():
            steps, loss = curve.train_loss
            error = np.abs(done.fitted.at(curve.rates(), steps) / loss - 1)
            role = "fitted" if one in plan.FITTED else "predicted"
            numbers = [error.mean(), error.max(), error[len(error) // 20 :].max()]
            found.append(_kept(name, law, one, settings.seed, role, curve.steps, numbers, seconds))
    return found


def lengths(settings: Settings, data: str | None, law: str) -> list[Result]:
    """Return for each longer run: its end, the forecast, its bounds, and the trivial fit's.

    The trivial fit goes through the same settings' ends at 15,000 and 25,000 steps, in T^-1/2;
    NaN is where they were not both made, or where the forecast was refused.
    """
    hand, found = plan.at_hand(data), []
    done, seconds = _fitted(hand, settings, law)
    for one in _longer(settings, data):
        rates, end = plan.end(one)
        pair = {x.steps: plan.end(x)[1] for x in hand if x.key == one.key}
        trivial = np.nan
        if {15_000, 25_000} <= pair.keys():
            slope = (pair[15_000] - pair[25_000]) / (15_000**-0.5 - 25_000**-0.5)
            trivial = pair[25_000] + slope * (one.steps**-0.5 - 25_000**-0.5)
        ahead = _forecast(done, rates)
        numbers = [end, *ahead, trivial]
        name = one.curve.name
        found.append(
            _kept("lengths", law, name, settings.seed, "predicted", one.steps, numbers, seconds)
        )
    return found


def _fitted(hand: Sequence[Run], settings: Settings, law: str) -> tuple[LossLaw, float]:
    """Return a law fitted to the runs at hand, and the seconds that this took."""
    start = time.process_time()
    curves = [one.curve for one in hand]
    done = fit(curves, law=law, seed=settings.seed, most_points=settings.points)
    return done, time.process_time() - start


def _longer(settings: Settings, data: str | None) -> list[Run]:
    """Return the runs that are forecast: longer than those at hand."""
    return [one for one in plan.runs(data) if one.steps > plan.AT_HAND][:: settings.every]


def _forecast(law: LossLaw, rates: Floats, own: Curve | None = None) -> list[float]:
    """Return a forecast and its bounds, or NaN where it is refused."""
    try:
        (ahead,) = law.predict([rates], level=plan.LEVEL, begun=own)
    except InvalidArgument:
        return [np.nan] * 3
    return [ahead.loss, ahead.low, ahead.high]


def suggestions(settings: Settings, data: str | None, first: str) -> list[Result]:
    """Return for each draw the end of: the suggested run, the best of three as it is, chance.

    Of three past runs with two peak rates or more the law says which of the long runs to make.
    The best of the three as it is: the run of the same settings at the long length.
    """
    wanted = plan.candidates(data)
    rates, ends = (
        [plan.end(one)[0] for one in wanted],
        np.array([plan.end(one)[1] for one in wanted]),
    )
    found = []
    for draw in range(int(first), min(int(first) + settings.chunk, settings.draws)):
        three, same, rng = plan.drawn(data, settings.seed + draw, wanted)
        start = time.process_time()
        curves = [one.curve for one in three]
        try:
            law = fit(
                curves, law=settings.laws[0], seed=settings.seed + draw, most_points=settings.points
            )
            picked = law.best(rates, outside="allow")
        except InvalidArgument:
            picked = same
        numbers = [ends[picked], ends[same], ends[rng.integers(len(ends))], ends.min()]
        seconds = time.process_time() - start
        found.append(
            _kept(
                "suggestions",
                settings.laws[0],
                str(draw),
                settings.seed + draw,
                "suggested",
                plan.WANTED,
                numbers,
                seconds,
            )
        )
    return found


def covered(settings: Settings, data: str | None, count: str) -> list[Result]:
    """Return for each law and draw of few past runs: forecasts of the longest runs, and how good.

    Of those that are not refused: how many, how many lie in their intervals, and the medians of
    the absolute error and of the interval's half width.
    """
    ends, found = [plan.end(one) for one in plan.candidates(data)], []
    for draw in range(settings.sets_of_few):
        seed = settings.seed + _FEW + draw
        past = plan.several(plan.at_hand(data), int(count), np.random.default_rng(seed))
        curves = [one.curve for one in past]
        for law in settings.laws:
            start = time.process_time()
            try:
                done = fit(curves, law=law, seed=seed, most_points=settings.points)
            except InvalidArgument:
                continue
            ahead = np.array([_forecast(done, rates) for rates, _ in ends])
            made = np.isfinite(ahead[:, 0])
            if not made.any():
                continue
            end, (loss, low, high) = np.array([end for _, end in ends])[made], ahead[made].T
            numbers = [
                made.sum(), ((low <= end) & (end <= high)).sum(),
                np.median(np.abs(loss / end - 1)), np.median((high - low) / 2 / loss),
            ]  # fmt: skip
            seconds = time.process_time() - start
            found.append(
                _kept("covered", law, count, seed, "predicted", plan.WANTED, numbers, seconds)
            )
    return found


def begun(settings: Settings, data: str | None, law: str) -> list[Result]:
    """Return for each longer run: its end, the forecast from its beginning, the best match's end.

    The match is the past run whose losses over the same steps are nearest.
    """
    hand, found = plan.at_hand(data), []
    done, seconds = _fitted(hand, settings, law)
    for one in _longer(settings, data):
        rates, end = plan.end(one)
        cut = plan.BEGUN * one.steps
        own = Curve(
            one.curve.name,
            lr=one.curve.lr.until(cut),
            held_out_loss=one.curve.held_out_loss.until(cut),
        )
        match = min(hand, key=lambda x: _apart(own.held_out_loss, x.curve.held_out_loss))
        try:
            fit([own], law=law)
            alone = 1.0
        except InvalidArgument:
            alone = 0.0
        numbers = [end, *_forecast(done, rates, own), plan.end(match)[1], alone]
        found.append(
            _kept(
                "begun",
                law,
                one.curve.name,
                settings.seed,
                "predicted",
                one.steps,
                numbers,
                seconds,
            )
        )
    return found


def _apart(a: Series, b: Series) -> float:
    both = np.intersect1d(a.step, b.step)
    both = both[both > 0]
    if not len(both):
        return np.inf
    logs = [np.log(x.value[np.searchsorted(x.step, both)]) for x in (a, b)]
    return float(np.mean((logs[0] - logs[1]) ** 2))
