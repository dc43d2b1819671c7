"""Schedules of the rate: below the bound whoever says it, in time, on the loss, learned."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.nmf.test_estimator import data, model
from tests.nmf.test_learned_rate import WIDE, policy

from ratewise.errors import InvalidArgument, UnknownName
from ratewise.nmf import StochasticNMF, learned, schedules
from ratewise.nmf.learned import LEAST, MOST
from ratewise.nmf.observation import LENGTHS

X = data()


def fitted(schedule: Any, **settings: Any) -> StochasticNMF:
    """30 passes of 5 batches."""
    return model(solver="sgd", schedule=schedule, **settings).fit(X)


def rates(schedule: Any, **settings: Any) -> np.ndarray:
    return fitted(schedule, **settings).rate_history_


class Said:
    """A schedule of one's own: what it is told to say, and what it saw."""

    def __init__(self, *values: Any) -> None:
        self.values, self.seen = values, []

    def rate(self, observation: Any) -> Any:
        self.seen.append(observation)
        return self.values[observation.step % len(self.values)]


@pytest.mark.parametrize("schedule", sorted(schedules.NAMED))
def test_every_named_schedule_runs_below_the_bound(schedule: str):
    found = fitted(schedule, policy=policy(0.3))
    c = found.rate_history_
    assert c.shape == (150,)
    assert ((c > 0) & (c <= 1.9)).all()
    assert found.reconstruction_err_ < 0.45 * np.linalg.norm(X)
    copied = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copied.rate_history_, c)


def test_a_learned_schedule_goes_on_where_it_was_saved():
    settings = {"solver": "sgd", "schedule": "learned", "policy": policy(0.3), "total_steps": 40}
    found = model(**settings)
    for _ in range(15):
        found.partial_fit(X[:20])
    saved = pickle.loads(pickle.dumps(found))
    for one in (found, saved):
        for _ in range(25):
            one.partial_fit(X[20:50])
    assert len(set(found.rate_history_)) >= 4
    np.testing.assert_array_equal(saved.rate_history_, found.rate_history_)


def test_bound_is_one_and_constant_is_what_is_asked_for():
    assert (rates("bound", rate=0.5) == 1.0).all()
    assert (rates("constant", rate=0.5) == 0.5).all()


def test_schedules_of_time_fall_as_they_should():
    time = np.arange(150) / 150
    cosine = 0.8 * (1 + np.cos(np.pi * time)) / 2
    np.testing.assert_allclose(rates("cosine", rate=0.8), np.maximum(cosine, LEAST), rtol=1e-9)
    exponential = rates("exponential", rate=0.8)
    assert exponential[0] == 0.8
    np.testing.assert_allclose(exponential[1:] / exponential[:-1], exponential[1] / 0.8, rtol=1e-6)
    assert 1e-3 < exponential[-1] < 0.1
    step = rates("step", rate=0.8)
    assert step[0] == 0.8
    assert 2 <= len(set(step)) <= 5
    assert (np.diff(step) <= 0).all()


def test_total_steps_is_the_length_of_a_run():
    short = rates("cosine", total_steps=50)
    falling = (1 + np.cos(np.pi * np.arange(50) / 50)) / 2
    np.testing.assert_allclose(short[:50], np.maximum(falling, LEAST), rtol=1e-9)
    assert (short[50:] == LEAST).all(), "the last value holds"


def test_greedy_rises_while_the_loss_falls_and_falls_while_it_does_not():
    c = rates("greedy", rate=0.5)
    assert c[0] == 0.5
    assert c.max() > 1.0
    assert c.max() <= MOST
    greedy = schedules.GreedySchedule(1.0)

    class Flat:
        loss = 1.0

    stuck = [greedy.rate(Flat()) for _ in range(200)]
    assert stuck[-1] < 0.5 * stuck[0]


@pytest.mark.parametrize(
    ("said", "taken"),
    [((7.0,), 1.9), ((-3.0,), 1e-3), ((0.0,), 1e-3), ((np.float32(0.5),), 0.5), ((np.inf,), 1.9)],
)
def test_what_a_schedule_of_ones_own_says_is_cut(said: Any, taken: float):
    assert (rates(Said(*said), max_iter=2) == taken).all()


@pytest.mark.parametrize("said", [float("nan"), None, "much"])
def test_what_is_no_number_is_named(said: Any):
    with pytest.raises(InvalidArgument, match=r"rate\(observation\) must be a number"):
        fitted(Said(said))


def test_a_fit_takes_a_copy_of_a_schedule():
    mine = Said(0.5, 1.0)
    first = rates(mine, max_iter=3)
    assert mine.seen == []
    np.testing.assert_array_equal(rates(mine, max_iter=3), first)
    np.testing.assert_array_equal(first[:4], [0.5, 1.0, 0.5, 1.0])


@pytest.mark.parametrize("penalty", [{}, {"alpha_W": 0.02, "l1_ratio": 0.5}])
def test_what_a_schedule_sees_is_the_fit_as_it_stands(penalty: dict[str, float]):
    """With penalties the loss is what the steps lower, and not the distance alone."""
    found = fitted(Said(1.0), **penalty)
    seen = found._solver._schedule.seen
    assert [o.step for o in seen] == list(range(150))
    assert seen[75].progress == 0.5
    assert seen[0].inner == 0.0
    losses = np.array([o.loss for o in seen])
    assert 90 * losses[-1] == pytest.approx(found.loss_history_[-1], rel=1e-3)
    last = seen[-1]
    gradient, gain = last._gradient, last._gain
    assert last.square == pytest.approx((gain * gradient**2).sum())
    assert last.inner == pytest.approx((gain * gradient * seen[-2]._gradient).sum())
    assert (np.array([o.square for o in seen]) > 0).all()


def test_what_a_schedule_sees_knows_no_scale_of_a_component():
    """H scaled by D and W by D^-1 is the same factorisation: so are loss, square and inner."""
    rng = np.random.default_rng(0)
    w, h, scale = rng.random((90, 3)), rng.random((3, 12)), np.array([1e-3, 1.0, 1e3])
    seen = []
    for d in (np.ones(3), scale):
        found = model(solver="sgd", init="custom", schedule=Said(1.0), max_iter=2)
        found.fit(X, W=w / d, H=h * d[:, None])
        seen.append([(o.loss, o.square, o.inner) for o in found._solver._schedule.seen])
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_learned_schedule_says_what_its_network_says(sign: float):
    """A network that always says the most, or the least, from the end of the first window on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = rates("learned", policy=policy(100.0 * sign))
    said = [sign if step >= round(150 / 4) else 0.0 for step in range(150)]
    wanted = [learned.multiple(np.array(a), i / 150, np) for i, a in enumerate(said)]
    np.testing.assert_allclose(c, wanted, rtol=1e-6)
    assert (c == (MOST if sign > 0 else LEAST)).any()


def test_a_learned_schedule_out_of_its_range_falls_back():
    narrow = np.zeros(WIDE, np.float32)
    with pytest.warns(UserWarning, match=r"was trained on.* plain cosine") as caught:
        found = fitted("learned", policy=policy(100.0, low=narrow, high=narrow))
    assert len(caught) == 1
    assert found._solver._schedule._schedule.outside[0] == 3
    wanted = [learned.multiple(np.array(0.0), step / 150, np) for step in range(150)]
    np.testing.assert_allclose(found.rate_history_, wanted, rtol=1e-6)


def test_a_policy_may_be_a_file(tmp_path: Path):
    policy(0.4).save(tmp_path / "own.safetensors")
    np.testing.assert_array_equal(
        rates("learned", policy=str(tmp_path / "own.safetensors")),
        rates("learned", policy=policy(0.4)),
    )
    with pytest.raises(UnknownName, match="policy"):
        fitted("learned", policy="none-of-this-name")


def test_the_policy_that_ships_factorises_and_knows_runs_longer_than_in_training():
    assert fitted("learned").reconstruction_err_ < 0.45 * np.linalg.norm(X)
    found = fitted("learned", max_iter=200, tol=0.0)  # 600 steps of the components and more
    assert found.n_steps_ > LENGTHS[1]
    assert found._solver._schedule._schedule.outside[0] == 0


def test_partial_fit_needs_a_length_where_time_counts():
    for schedule in ("step", "exponential", "cosine", "learned"):
        found = model(solver="sgd", schedule=schedule, policy=policy())
        with pytest.raises(InvalidArgument, match=f"total_steps must be .*{schedule}"):
            found.partial_fit(X[:20])
        found.set_params(total_steps=4)
        for _ in range(6):  # longer than was said
            found.partial_fit(X[:20])
        assert len(found.rate_history_) == 6
    for schedule in ("bound", "constant", "greedy"):
        model(solver="sgd", schedule=schedule).partial_fit(X[:20])


def test_a_slow_rate_gets_less_far():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow, fast = (fitted("constant", rate=rate, init="random") for rate in (1e-3, 1.0))
    assert slow.reconstruction_err_ > 1.2 * fast.reconstruction_err_


def test_an_unknown_name_is_named():
    with pytest.raises(UnknownName, match="did you mean 'greedy'"):
        schedules.make("greedi", 1.0, None)


def test_a_schedule_can_be_copied_in_mid_run():
    found = fitted("greedy", max_iter=3)
    other = copy.deepcopy(found)
    for one in (found, other):
        one.partial_fit(X[:20])
    np.testing.assert_array_equal(found.rate_history_, other.rate_history_)
