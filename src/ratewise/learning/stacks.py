"""Stacks of runs on workers: each goes from decision to decision, wherever it lies.

What a stack shows depends on how it was drawn and on the actions so far, and on nothing else. A
worker keeps the stacks that it has; one that lost its stack, or never had it, begins it again and
repeats the actions. So a policy is the same to the bit on every backend, whoever dies or is late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ratewise.errors import RunFailed
from ratewise.pool import Work, Workers


class Stack(Protocol):
    """Runs that step together and wait for actions at the end of each window."""

    def window(self) -> NDArray[np.float32]:
        """Step to the window's end, and return the observations, [runs, features]."""

    def act(self, actions: NDArray[Any]) -> None:
        """Take the actions for the next window, [runs] in [-1, 1]."""

    def result(self) -> NDArray[Any] | None:
        """Return what rewards are made of, if the last window has brought anything."""

    @property
    def done(self) -> bool:
        """Whether the runs have ended."""


#: Draws a round's stack of that number: its name, and a function that begins it.
Draw = Callable[[int, np.random.Generator], tuple[str, Callable[[], Stack]]]


class Turn(NamedTuple):
    """What is asked of a worker: to take a stack to the decision after these actions."""

    round: int
    number: int  #: of the stack
    drawn: dict[str, Any]  #: the generator's state before the stack was drawn
    actions: tuple[NDArray[np.float32], ...]  #: one entry a decision, [runs]


class Shown(NamedTuple):
    """What a stack shows at the end of a window."""

    seen: NDArray[np.float32]
    result: NDArray[Any] | None
    done: bool


def work(draw: Draw) -> Work[Turn]:
    """Return what workers do for a learner; a stack stays with its worker.

    Args:
        draw: a function of a module, or a partial of one.
    """
    return Work(_turn, partial(_alive, draw), name=_name, place=_number)


class _Alive:
    """The stacks that a worker has.

    Args:
        draw: draws one.
    """

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._stacks: dict[tuple[int, int], tuple[Stack, int]] = {}  # with its windows so far

    def turn(self, asked: Turn) -> Shown:
        """Take a stack to the end of its next window."""
        key, wanted = (asked.round, asked.number), len(asked.actions)
        stack, windows = self._stacks.pop(key, (None, 0))
        self._stacks = {k: v for k, v in self._stacks.items() if k[0] == asked.round}
        if stack is None or windows != wanted:
            rng = np.random.default_rng(0)
            rng.bit_generator.state = asked.drawn
            _, begin = self._draw(asked.number, rng)
            stack = begin()
            for action in asked.actions:
                stack.window()
                stack.act(action)
        else:
            stack.act(asked.actions[-1])
        seen = stack.window()
        self._stacks[key] = stack, wanted + 1
        return Shown(seen, stack.result(), stack.done)


@contextlib.contextmanager
def _alive(draw: Draw) -> Iterator[_Alive]:
    torch.set_num_threads(1)  # sums that several threads share are rounded in another way
    yield _Alive(draw)


def _turn(alive: _Alive, asked: Turn) -> Shown:
    return alive.turn(asked)


def _number(asked: Turn) -> int:
    return asked.number


def _name(asked: Turn) -> str:
    return f"round {asked.round}, stack {asked.number}"


class Stacks:
    """A round's stacks, as the learner sees them.

    Args:
        draw: draws one.
        count: how many a round has.
        workers: prepared with `work(draw)`.
    """

    def __init__(self, draw: Draw, count: int, workers: Workers) -> None:
        self._draw, self._count, self._workers = draw, count, workers
        self._turns: list[Turn] = []
        self.names: list[str] = []

    def begin(self, round: int, rng: np.random.Generator) -> list[Shown]:
        """Draw a round's stacks, and take each to its first decision."""
        self.names, self._turns = [], []
        for number in range(self._count):
            drawn = rng.bit_generator.state
            name, _ = self._draw(number, rng)
            self.names.append(name)
            self._turns.append(Turn(round, number, dict(drawn), ()))
        return self._shown()

    def go_on(self, actions: NDArray[Any]) -> list[Shown]:
        """Take each to its next decision.

        Args:
            actions: of all runs, in the stacks' order.
        """
        each = np.asarray(actions, np.float32).reshape(self._count, -1)
        self._turns = [
            turn._replace(actions=(*turn.actions, mine))
            for turn, mine in zip(self._turns, each, strict=True)
        ]
        return self._shown()

    def _shown(self) -> list[Shown]:
        over = sorted(self._workers.each(self._turns), key=_order)
        failed: Sequence[str] = [one.wrong for one in over if one.wrong]
        if failed:
            shown = "\n".join(f"  {failure}" for failure in failed[:5])
            raise RunFailed(f"{len(failed)} of {len(over)} stacks failed:\n{shown}")
        return [one.made for one in over]


def _order(one: Any) -> int:
    return int(one.number)
