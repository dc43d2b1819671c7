"""Stacks on workers: what they show depends on what was drawn and done, and on no worker."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ratewise.errors import InvalidArgument, RunFailed
from ratewise.learning import stacks
from ratewise.learning.factorisations import FactorisationRecipe, FactorisationSettings
from ratewise.learning.ppo import learn
from ratewise.learning.stacks import Stacks
from ratewise.pool import Done, Workers, here, processes

ROUND = np.random.SeedSequence(3)


class Walk:
    """Sums of what was drawn and of all actions; the order of both counts."""

    def __init__(self, first: float) -> None:
        self._at, self._windows = first, 0

    def window(self) -> NDArray[np.float32]:
        self._at = np.sin(7.0 * self._at)
        self._windows += 1
        return np.full((2, 1), self._at, np.float32)

    def act(self, actions: NDArray[Any]) -> None:
        self._at += float(actions[0])

    def result(self) -> NDArray[Any] | None:
        return np.array([self._at]) if self.done else None

    @property
    def done(self) -> bool:
        return self._windows == 4


def draw(number: int, rng: np.random.Generator) -> tuple[str, Callable[[], Walk]]:
    first = float(rng.uniform())
    return f"walk {number}", partial(Walk, first)


class Forgetful:
    """Workers of which each item meets a new one."""

    def each(self, items: Sequence[Any]) -> Iterator[Done]:
        for number, item in reversed(list(enumerate(items))):
            (done,) = here(stacks.work(draw)).each([item])
            yield done._replace(number=number)

    def places(self) -> str:
        return ""


def shown(workers: Workers) -> list[NDArray[Any]]:
    found = Stacks(draw, 3, workers)
    all_shown = [found.begin(5, np.random.default_rng(ROUND))]
    rng = np.random.default_rng(0)
    all_shown += [found.go_on(rng.uniform(-1, 1, 6)) for _ in range(3)]
    assert [one.done for one in all_shown[-1]] == [True] * 3
    assert found.names == ["walk 0", "walk 1", "walk 2"]
    return [np.concatenate([one.seen for one in turn]) for turn in all_shown]


def test_a_worker_that_never_had_a_stack_takes_it_to_the_same_place():
    ours, theirs = shown(here(stacks.work(draw))), shown(Forgetful())
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(np.concatenate(ours))) == 12  # the control: all else shows


def test_a_stack_that_fails_is_named():
    def failing(number: int, rng: np.random.Generator) -> tuple[str, Callable[[], Walk]]:
        return "walk", partial(Walk) if number == 1 else partial(Walk, 1.0)

    found = Stacks(failing, 2, here(stacks.work(failing)))
    with pytest.raises(RunFailed, match="1 of 2 stacks failed:\n  round 0, stack 1: TypeError"):
        found.begin(0, np.random.default_rng(0))


SMALL: dict[str, Any] = {"stacks": 2, "problems": 1, "copies": 2, "windows": 4, "wide": 1}


def learned(out: Path, **where: Any) -> list[NDArray[Any]]:
    settings = FactorisationSettings(decisions=24, minibatch=12, **SMALL)
    policy = learn(FactorisationRecipe(settings), out, progress=False, **where)
    return [*policy.weights, *policy.biases, policy.low, policy.high]


def test_a_policy_is_the_same_to_the_bit_in_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "get_context", lambda _: multiprocessing.get_context("fork"))
    ours = learned(tmp_path / "here.safetensors")
    theirs = learned(tmp_path / "processes.safetensors", jobs=2)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_places_are_named_before_anything_is_learned(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="jobs must be an integer >= 1, got 0"):
        learned(tmp_path / "x.safetensors", jobs=0)
    with pytest.raises(InvalidArgument, match="address must be given with backend 'ray'"):
        learned(tmp_path / "x.safetensors", jobs=2, address="auto")
    assert not list(tmp_path.iterdir())
