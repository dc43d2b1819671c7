"""A run follows from its own seed, rate, rule and noise, not from what it is stacked with."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import (
    OPTIMIZERS,
    images,
    off,
    ordinary,
    regression,
    sentences,
    squared,
)
from torch import Tensor, nn

from ratewise.rules.greedy_config import GreedyConfig
from ratewise.simulate import Noise, Task, Trajectories, families, run
from ratewise.simulate.trajectories import PER_STEP

#: Six runs of which no two are alike.
MIXED: dict[str, Any] = {
    "rule": ["cosine", GreedyConfig(patience=1, window=2), "constant", "plateau", "greedy", "step"],
    "lr": [0.03, 0.1, 0.01, 0.05, 0.03, 0.02],
    "noise": [
        None,
        Noise("gaussian", "gradient"),
        Noise("burst", "loss"),
        Noise("plateau", "data"),
        Noise("adversarial", "gradient", 0.3),
        Noise("oscillating", "data"),
    ],
}
SEEDS = [3, 1, 4, 15, 9, 26]


def mixed(task: Task, rows: list[int], **options: Any) -> Trajectories:
    """Train some of the six runs."""
    chosen = {name: [values[row] for row in rows] for name, values in MIXED.items()}
    rule, seed = chosen.pop("rule"), [SEEDS[row] for row in rows]
    build = OPTIMIZERS["sgd nesterov decayed"]
    return run(
        task, build, rule, runs=len(rows), **chosen, **{"seed": seed, "steps": 20, **options}
    )


def same(ours: Trajectories, row: int, theirs: Trajectories, other: int) -> bool:
    """Return whether two runs are equal to the bit, in everything that is recorded."""
    names = (*PER_STEP, "initial", "final", "diverged_at")
    pairs = [(getattr(ours, name)[row], getattr(theirs, name)[other]) for name in names]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize("task", [regression, images, sentences], ids=lambda task: task.__name__)
def test_the_chunk_s_size_does_not_matter(task):
    double = {"dtype": torch.float64}
    whole = mixed(task(), [*range(6)], chunk=6, **double)
    for chunk in (1, 2, 3):
        parts = mixed(task(), [*range(6)], chunk=chunk, **double)
        for name in (*PER_STEP, "initial", "final"):
            assert off(getattr(parts, name), getattr(whole, name)) < 1e-11, (chunk, name)
    for row in (1, 3, 4):
        alone = mixed(task(), [row], **double)
        assert off(alone.loss[0], whole.loss[row]) < 1e-12
    assert len({*whole.loss[:, -1]}) == 6


def small(name: str) -> Task:
    """A family's task with a short evaluation: these tests look at training."""
    return dataclasses.replace(families.family(name), evaluation=16)


@pytest.mark.parametrize("name", families.names())
def test_nor_does_it_in_any_family(name):
    task = small(name)
    options: dict[str, Any] = {"runs": 3, "steps": 2, "lr": 1e-3, "dtype": torch.float64}
    whole, alone = (run(task, "sgd", **options, chunk=chunk) for chunk in (3, 1))
    assert off(alone.loss, whole.loss) < 1e-12
    assert off(alone.final, whole.final) < 1e-12


def test_nor_do_the_neighbours():
    for row in range(6):
        others = [other for other in range(6) if other != row]
        first = mixed(regression(), [row, *others[:2]], chunk=3)
        second = mixed(regression(), [row, *others[3:]], chunk=3)
        assert same(first, 0, second, 0)
        assert not same(first, 1, second, 1)


@pytest.mark.parametrize("name", families.names())
def test_a_run_that_explodes_leaks_into_none(name):
    """1e300 is infinite in float32, so that no squashing of what is large keeps the loss finite."""
    task, options = small(name), {"runs": 4, "steps": 4, "chunk": 4}
    good = run(task, "sgd", "greedy", lr=1e-3, **options)
    bad = run(task, "sgd", "greedy", lr=[1e30, 1e-3, 1e300, 1e-3], **options)
    assert 0 < bad.diverged_at[2] <= 4
    assert [same(good, row, bad, row) for row in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_poisoned_data_of_one_run_reaches_none_of_the_others(name, poison):
    """Under all rules and noises, where not one step of the run is sound."""
    x, y = regression().data_for(0)
    clean = dataclasses.replace(regression(), data=lambda seed: (x, y))
    spoilt = dataclasses.replace(
        regression(), data=lambda seed: (torch.full_like(x, poison) if seed == SEEDS[2] else x, y)
    )
    rows = [0, 1, 2, 3, 4, 5]
    rule, noise = MIXED["rule"], MIXED["noise"]
    good, bad = (
        run(
            task, OPTIMIZERS[name], rule, runs=6, steps=8, lr=0.01, noise=noise, seed=SEEDS, chunk=6
        )
        for task in (clean, spoilt)
    )
    assert bad.diverged_at.tolist() == [0, 0, 1, 0, 0, 0]
    assert [same(good, row, bad, row) for row in rows] == [True, True, False, True, True, True]
    assert bad.diverged().tolist() == [False, False, True, False, False, False]


def test_one_seed_gives_the_same_numbers_to_the_bit_and_another_does_not():
    options: dict[str, Any] = {"runs": 3, "steps": 10, "lr": 0.03, "chunk": 2}
    first, again, *others = (
        run(regression(), "adam", "greedy", seed=seed, noise="gaussian", **options)
        for seed in (7, 7, 0, 1, 2)
    )
    assert all(same(first, row, again, row) for row in range(3))
    assert first.seeds == again.seeds
    starts = {float(loss) for result in (first, *others) for loss in result.initial}
    assert len(starts) == 12, "no two runs of different seeds begin alike"
    assert len({seed for result in (first, *others) for seed in result.seeds}) == 12


def test_seeds_reach_the_generators_whole():
    """torch's generator on the CPU takes 32 bits of a seed: more would be lost without a word."""
    result = run(regression(), "sgd", runs=4, steps=1, lr=0.0, seed=2**32 - 1, chunk=4)
    assert all(0 <= seed < 2**32 for seed in result.seeds)
    a, b = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32))
    assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))


def test_equal_seeds_are_pairs():
    """The same weights and the same batches under other rules: a rate of 0 shows them bare."""
    rules, options = ["constant", "cosine", "greedy"], {"runs": 3, "steps": 12, "chunk": 3}
    still = run(regression(), "sgd", rules, lr=0.0, seed=[8] * 3, **options)
    assert same(still, 0, still, 1)
    assert same(still, 0, still, 2)
    moving = run(regression(), "sgd", rules, lr=0.1, seed=[8] * 3, **options)
    assert len(set(moving.initial)) == 1
    assert len(set(moving.loss[:, 0])) == 1
    assert len(set(moving.loss[:, -1])) == 3
    unpaired = run(regression(), "sgd", rules, lr=0.0, seed=[8, 9, 10], **options)
    assert len(set(unpaired.initial)) == 3
    assert len(set(unpaired.loss[:, 0])) == 3


def dropping() -> Task:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 1))

    return dataclasses.replace(regression(), name="test-dropout", model=model)


@pytest.mark.parametrize("chunk", [1, 4])
def test_dropout_works_differs_between_runs_and_is_reproducible(chunk):
    options: dict[str, Any] = {"runs": 4, "steps": 40, "chunk": chunk}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    result = run(dropping(), "adam", lr=0.03, **options)
    assert torch.equal(torch.get_rng_state(), state), "the caller's randomness is left alone"
    torch.manual_seed(2)
    again = run(dropping(), "adam", lr=0.03, **options)
    assert all(same(result, row, again, row) for row in range(4))
    assert (result.final < result.initial).all()

    still = run(dropping(), "adam", lr=0.0, **options)
    assert np.array_equal(still.initial, still.final), "the clean loss is without dropout"
    epoch = still.loss.reshape(4, 10, 4).mean(2)
    assert all(len({*run}) == 10 for run in epoch), "each step has a mask of its own"
    bare = run(regression(), "adam", lr=0.0, **options)
    epoch = bare.loss.reshape(4, 10, 4).mean(2)
    assert np.ptp(epoch, axis=1).max() < 1e-6, "without dropout, all epochs are alike"


def test_runs_of_one_seed_in_one_stack_have_masks_of_their_own():
    result = run(dropping(), "sgd", runs=3, steps=5, lr=0.0, seed=[8] * 3, chunk=3)
    assert len(set(result.initial)) == 1
    assert all(len(set(losses)) == 3 for losses in result.loss.T)


def line(seed: int, rows: int = 12) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed + 100)
    x = torch.randn(rows, 2, generator=draw)
    return x, x @ torch.randn(2, 1, generator=draw)


def test_every_run_may_have_data_of_its_own():
    own = Task("test-own", partial(nn.Linear, 2, 1), squared, line, 4)
    build, seeds = OPTIMIZERS["sgd"], [4, 7, 2]
    options: dict[str, Any] = {"steps": 15, "lr": 0.1, "dtype": torch.float64, "chunk": 2}
    result = run(own, build, runs=3, seed=seeds, **options)
    for row, seed in enumerate(seeds):
        shared = dataclasses.replace(own, data=line(seed))
        alone = run(shared, build, runs=1, seed=[seed], **options)
        assert off(result.loss[row], alone.loss[0]) < 1e-12
        assert off(result.initial[row], alone.initial[0]) < 1e-12
        assert off(result.loss[row], ordinary(own, build, seed, 15, lr=0.1).loss) < 1e-12
    wrong = run(dataclasses.replace(own, data=line(4)), build, runs=3, seed=seeds, **options)
    assert off(result.loss[0], wrong.loss[0]) < 1e-12
    assert off(result.loss[1], wrong.loss[1]) > 1e-3
