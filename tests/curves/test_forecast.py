"""What is fitted to curves that a law made: forecasts, intervals, refusals, limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.curves.made import PEAK, curve, losses, rates, several

from ratewise.curves import Curve, Series, fit
from ratewise.curves.forecast import LossLaw, OutsideSeen
from ratewise.errors import InvalidArgument, UnknownName


@pytest.fixture(scope="module")
def law() -> LossLaw:
    return fit(several(), most_points=24)


def truth(shape: str, peak: float = PEAK, steps: int = 2000, law: str = "functional") -> float:
    return float(losses(law, rates(shape, peak, steps), np.array([steps]))[0])


@pytest.mark.parametrize("shape", ["cosine", "wsd 0.2", "constant"])
def test_a_longer_run_is_forecast_within_its_interval(law: LossLaw, shape: str):
    (found,) = law.predict([rates(shape, PEAK, 4000)], level=0.99)
    true = truth(shape, PEAK, 4000)
    assert found.loss == pytest.approx(true, rel=4e-3)
    assert found.low <= true <= found.high
    assert found.high / found.low < 1.05
    assert truth(shape, PEAK, 2000) > 1.005 * true  # the control: the past run's end is not it


def test_parameters_come_back_with_intervals_that_shrink_with_more_runs():
    few, many = (fit(runs, most_points=24) for runs in (several()[::4], several()))
    for found in (few, many):
        low = found.parameters()["L0"]
        assert low.low < 2.5 * 1.05
        assert low.high > 2.5 * 0.95
    width = [np.log(one.high / one.low) for one in (x.parameters()["L0"] for x in (few, many))]
    assert width[1] < width[0]


def test_the_other_law_fits_what_it_made():
    found = fit(several("multi-power"), law="multi-power", most_points=24)
    (ahead,) = found.predict([rates("wsd 0.2", PEAK, 4000)])
    assert ahead.loss == pytest.approx(truth("wsd 0.2", PEAK, 4000, "multi-power"), rel=4e-3)
    with pytest.raises(UnknownName, match="unknown law 'multipower': did you mean 'multi-power'"):
        fit(several(), law="multipower")


def test_the_best_of_several_schedules_is_found(law: LossLaw):
    candidates = [("constant", PEAK), ("cosine", PEAK), ("wsd 0.2", PEAK), ("cosine", 5e-4)]
    true = [truth(shape, peak, 3000) for shape, peak in candidates]
    found = law.best([rates(shape, peak, 3000) for shape, peak in candidates])
    assert true[found] <= min(true) * 1.002
    assert max(true) > min(true) * 1.01


def test_what_no_run_comes_near_is_refused_and_said(law: LossLaw):
    for asked, words in (
        (rates("cosine", 4e-3), "peak rate 0.004, seen were 0.0005 to 0.002"),
        (rates("cosine", 1e-4), "peak rate 0.0001"),
        (rates("cosine", PEAK, 7000), "7000 steps, the longest run has 2000"),
        (np.where(np.arange(2000) < 1800, 1e-5, PEAK), "a shape that differs"),
    ):
        with pytest.raises(OutsideSeen, match=words):
            law.predict([asked])
        assert law.predict([asked], outside="allow")[0].loss > 0
    with pytest.raises(OutsideSeen):
        law.best([rates("cosine", 4e-3)], outside="allow")


def test_a_run_s_own_beginning_moves_its_forecast(law: LossLaw):
    asked = rates("cosine", PEAK, 2000)
    run = curve("cosine")
    above = replace(run, train_loss=Series.of(run.train_loss.step, 1.02 * run.train_loss.value))
    begun = Curve("begun", above.lr.until(600), above.train_loss.until(600))
    plain, moved = law.predict([asked]), law.predict([asked], begun=begun)
    assert 1.01 < moved[0].loss / plain[0].loss < 1.03
    usual = law.predict([asked], begun=Curve("", run.lr.until(600), run.train_loss.until(600)))
    assert usual[0].loss == pytest.approx(plain[0].loss, rel=1e-3)


def test_too_little_is_refused():
    with pytest.raises(
        InvalidArgument, match=r"runs must be two or more .* got 1: one curve cannot"
    ):
        fit([curve("cosine")])
    with pytest.raises(InvalidArgument, match="runs must differ in their rates"):
        fit([curve("constant"), curve("constant", seed=1)])
    with pytest.raises(InvalidArgument, match="got 0"):
        fit([replace(one, lr=Series.empty()) for one in several()])


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda x: x / np.log(2), "look like bits"), (np.exp, "look like a perplexity")],
)
def test_a_loss_in_another_unit_is_named(change, words: str):
    runs = several()
    odd = runs[4].train_loss
    runs[4] = replace(runs[4], name="odd", train_loss=Series.of(odd.step, change(odd.value)))
    with pytest.raises(InvalidArgument, match=f"run 'odd' .*{words}"):
        fit(runs)


def test_a_run_that_diverged_is_left_out_and_named():
    runs = several()
    last = runs[0].train_loss
    risen = np.where(last.step > 800, 7.5, last.value)
    runs[0] = replace(runs[0], name="risen", train_loss=Series.of(last.step, risen))
    runs[1] = replace(runs[1], name="nan", diverged_at=700)
    found = fit(runs, most_points=24)
    assert set(found.left_out) == {"risen", "nan"}
    assert "far above its lowest loss" in found.left_out["risen"]
    assert found.runs == tuple(run.name for run in runs[2:])


def test_the_same_seed_gives_the_same_fit():
    first, second = (fit(several()[::2], seed=3, most_points=16) for _ in range(2))
    assert first.fitted.theta.tobytes() == second.fitted.theta.tobytes()


def covered(law: LossLaw) -> float:
    """Return the share of true ends, by the other law, that lie in the 90% intervals."""
    wanted = [(shape, peak, 4000) for shape in ("cosine", "wsd 0.2") for peak in (6e-4, 1.2e-3)]
    found = law.predict([rates(*one) for one in wanted], outside="allow")
    true = [truth(*one, law="multi-power") for one in wanted]
    return float(np.mean([one.low <= x <= one.high for one, x in zip(found, true, strict=True)]))


def test_from_few_runs_intervals_are_wide_enough_for_what_is_not_known():
    runs, rng, now, before = several("multi-power"), np.random.default_rng(0), [], []
    for _ in range(8):
        law = fit([runs[i] for i in rng.choice(len(runs), 3, replace=False)], most_points=24)
        now.append(covered(law))
        # the control: constants as if they were known, and scales as if many runs told them
        known = replace(law.fitted, spreads=1e-9 * law.fitted.spreads, runs=1000)
        sure = replace(law, fitted=known, remainder=replace(law.remainder, law=known))
        before.append(covered(sure))
    assert np.mean(now) > 0.85
    assert np.mean(before) < 0.7
