"""At every rate, also where training is chaotic: a run is as near an ordinary one as another is.

Beyond the edge of stability a training multiplies every rounding, by ten thousand million and
more: two ordinary loops that differ in the last bit part company as fast as a stacked run leaves
them. So over 100 steps a run is held against what rounding does to an ordinary loop, and over one
step, from the stack's own state, against an ordinary step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import OPTIMIZERS, Alone, bowl, off, ordinary, regression
from torch import Tensor

from ratewise.simulate import run
from ratewise.simulate.stack import Stack

STEPS, SEED = 100, 5
#: Five decades.
RATES = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]
#: Loops whose every number is moved by its last bit. Several, because where a gradient all but
#: cancels one nudge may have no effect.
NUDGES = 6
#: A kernel that adds n numbers is off by up to n last bits, and the longest sums here have six; a
#: stack rounds at each of a dozen operations of a layer and of the optimizer, a nudge at three.
FEW = 20
#: Where rounding does less than this, an error of a millionth is seen.
SEEN = 1e-9
#: One of each kind, with the options that make its arithmetic longest.
KINDS = [
    "sgd",
    "sgd nesterov decayed",
    "adam amsgrad decayed",
    "adamw",
    "adagrad",
    "rmsprop",
    "nadam",
    "radam decoupled",
    "adamax",
    "adadelta",
]


@functools.cache
def loop(name: str, lr: float, nudge: int | None = None) -> Alone:
    """Return an ordinary loop, or one whose every number is moved by its last bit."""
    options: dict[str, Any] = {"lr": lr, "norms": False, "nudge": nudge}
    return ordinary(regression(), OPTIMIZERS[name], SEED, STEPS, **options)


def allowed(name: str, lr: float, enough: float = math.inf) -> float:
    """Return how far from the loop rounding may be: FEW times what the worst nudge does to it.

    The largest effect counts, so there is no need of another nudge once it is `enough`.
    """
    largest = 0.0
    for nudge in range(NUDGES):
        effect = off(loop(name, lr, nudge).loss, loop(name, lr).loss)
        largest = max(largest, FEW * effect)
        if largest >= enough:
            break
    return largest


@pytest.mark.numerics
@pytest.mark.parametrize("name", KINDS)
def test_a_run_is_off_by_no_more_than_rounding_makes_an_ordinary_loop(name):
    build, many = OPTIMIZERS[name], len(RATES)
    options: dict[str, Any] = {"dtype": torch.float64, "chunk": many, "seed": [SEED] * many}
    result = run(regression(), build, runs=many, steps=STEPS, lr=RATES, **options)
    tame = 0
    for row, lr in enumerate(RATES):
        apart = off(result.loss[row], loop(name, lr).loss)
        most = allowed(name, lr, enough=apart)
        if most < 1:  # beyond, two loops have nothing in common
            assert apart <= most, lr
            assert result.diverged_at[row] == loop(name, lr).diverged_at
        tame += most < SEEN
    assert tame >= 4


@pytest.mark.parametrize("name", ["sgd nesterov decayed", "adamw", "adadelta"])
def test_a_loop_at_a_rate_that_is_wrong_by_a_millionth_is_further_off(name):
    for lr in RATES[:4]:
        most = allowed(name, lr)
        assert most < SEEN
        assert off(loop(name, lr * (1 + 1e-6)).loss, loop(name, lr).loss) > most, lr


def test_there_are_chaotic_rates_and_an_ordinary_loop_is_lost_there_too():
    assert allowed("rmsprop", 1.0, enough=1e-5) > 1e-5
    assert allowed("rmsprop", RATES[0]) < 1e-12


def batches(runs: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield a batch of each run, [runs, batch, ...], for ever."""
    draw = torch.Generator().manual_seed(3)
    data = [part.double() for part in regression().data_for(0)]
    while True:
        rows = torch.randint(len(data[0]), (runs, 6), generator=draw)
        yield tuple(part[rows] for part in data)


def own_state(entry: dict[str, Any], row: int, weights: Tensor) -> dict[str, Any]:
    """Return one run's part of what an optimizer remembers of the stack."""
    return {
        name: value[row].clone()
        if isinstance(value, Tensor) and value.shape == weights.shape
        else value.clone()
        if isinstance(value, Tensor)
        else value
        for name, value in entry.items()
    }


def ordinary_step(
    build: Any, weights: Tensor, state: dict[str, Any], lr: float, batch: tuple[Tensor, ...]
) -> Tensor:
    """Return the weights after one step of one module under an optimizer of its own, flat."""
    task = regression()
    model = task.model().double()
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    optimizer = build(parameters, lr=lr)
    for at, parameter in enumerate(parameters):
        parameter.data = weights.split(sizes)[at].view(parameter.shape).clone()
        if state:
            optimizer.state[parameter] = {
                name: value.split(sizes)[at].view(parameter.shape).clone()
                if isinstance(value, Tensor) and value.ndim == 1
                else value.clone()
                if isinstance(value, Tensor)
                else value
                for name, value in state.items()
            }
    task.loss(model(batch[0]), *batch[1:]).backward()
    optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def worst_step(name: str, rates: list[float], steps: int, wrong: float = 1.0) -> float:
    """Return the largest relative difference of the weights after a step from the same state."""
    build, runs = OPTIMIZERS[name], len(rates)
    stack = Stack(regression(), build, [SEED] * runs, dtype=torch.float64)
    worst = 0.0
    for step, batch in zip(range(steps), batches(runs), strict=False):
        scale = 0.55 + 0.45 * np.cos(step / 7)  # rates change with time
        before = stack.flat.detach().clone()
        entry = stack.optimizer.state[stack.flat]
        states = [own_state(entry, row, before) for row in range(runs)]
        stack.backward(stack.losses(batch))
        stack.step(torch.tensor(rates, dtype=torch.float64) * scale)
        for row, (lr, state) in enumerate(zip(rates, states, strict=True)):
            own = tuple(part[row] for part in batch)
            theirs = ordinary_step(build, before[row], state, lr * scale * wrong, own)
            ours = stack.flat.detach()[row]
            assert torch.equal(ours.isfinite(), theirs.isfinite())
            if theirs.isfinite().all():
                size = max(float(theirs.abs().max()), float(before[row].abs().max()))
                worst = max(worst, float((ours - theirs).abs().max()) / size)
    return worst


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_step_is_an_ordinary_step_at_every_rate(name):
    assert worst_step(name, [1e-3, 0.1, 10.0], STEPS) < 1e-12


def test_a_step_at_a_rate_that_is_wrong_is_noticed():
    assert worst_step("adamw", [1e-2], 5, wrong=1 + 1e-9) > 1e-12


def test_a_quadratic_follows_its_closed_form_at_every_rate():
    """x_i[t] = (1 - lr 2^-i)^t x_i[0]: SGD on it needs no loop to be known."""
    lr = [*np.logspace(-5, 0, 11), 1.9, 2.5, 20.0]
    options: dict[str, Any] = {"dtype": torch.float64, "chunk": len(lr), "seed": [SEED] * len(lr)}
    result = run(bowl(), OPTIMIZERS["sgd"], runs=len(lr), steps=STEPS, lr=lr, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        start = bowl().model().x.detach().double().numpy()
    curvature = 2.0 ** -np.arange(8)
    for row, rate in enumerate(lr):
        x = start * (1 - rate * curvature) ** np.arange(STEPS)[:, None]
        assert off(result.loss[row], 0.5 * (curvature * x**2).sum(1)) < 1e-9
