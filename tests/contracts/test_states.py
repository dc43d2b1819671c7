"""Every value of every saved state, replaced by what nobody saved: refused by name, or harmless."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.contracts.rules import ROWS, Row
from tests.contracts.training import Training
from torch import Tensor, nn

from ratewise import GreedyLR, SpikeGuard
from ratewise.errors import InvalidState
from ratewise.optimizers import HypergradientAdam, HypergradientSGD, StochasticLineSearch

MISSING = object()
#: What is said where a state is sound, and of something else than what is to load it.
MISFITS = ("the optimizer has", "with a policy")


def deep(levels: int = 3000) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: list[Any] = [
    *(math.nan, math.inf, -math.inf, -5.0, -3, 0, 2**70, 10**400, 1e300, 5e-324),
    *(True, None, "x", "cosine", [], {}, [math.nan], {"x": 1}, (1, 2), deep(), MISSING),
]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value that is no container, and to every container."""
    if path:
        yield path
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = list(enumerate(value))[:2]  # the third entry of a list is as the second
    for key, part in inner:
        yield from leaves(part, (*path, key))


def replaced(state: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a state with another value at the end of a path."""
    state = copy.deepcopy(state)
    holder = state
    for key in path[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return state


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


class Subject:
    """Something that saves and loads a state; by default a scheduler in a training."""

    def __init__(self, row: Row) -> None:
        self.training = Training(row).run(3)
        self.target: Any = self.training.scheduler
        self.optimizer: Any = self.training.optimizer

    def step(self) -> None:
        self.training.step()

    def everything(self) -> str:
        return repr([plain(self.target.state_dict()), plain(self.optimizer.state_dict())])

    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]


class Guarded(Subject):
    def __init__(self) -> None:
        super().__init__(ROWS[1])
        self.target = SpikeGuard(self.training.model, self.optimizer, self.training.scheduler)
        for loss in (1.0,) * 12 + (math.nan,):
            self.target.spiked(loss)

    def step(self) -> None:
        self.target.spiked(0.9)


class Optimized(Subject):
    def __init__(self, kind: Any, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.x = torch.randn(8, 3)
        self.target = self.optimizer = kind(self.model.parameters(), **settings)
        for _ in range(3):
            self.step()

    def loss(self) -> Tensor:
        return self.model(self.x).square().mean() + 1

    def step(self) -> None:
        if isinstance(self.optimizer, StochasticLineSearch):
            self.optimizer.step(self.loss)
            return
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


SUBJECTS: dict[str, Any] = {
    **{row.name: lambda row=row: Subject(row) for row in ROWS},
    "guard": Guarded,
    "hypergradient SGD": lambda: Optimized(HypergradientSGD, per="tensor", momentum=0.9),
    "hypergradient Adam": lambda: Optimized(HypergradientAdam),
    "line search": lambda: Optimized(StochasticLineSearch, direction="adam"),
}


def refusal(subject: Subject, state: Any) -> str | None:
    """Return what a state is refused with, or None where it is taken."""
    try:
        subject.target.load_state_dict(state)
    except InvalidState as error:
        return str(error)
    except ValueError as error:  # numbers of groups and of parameters are torch's affair
        if "parameter group" not in str(error):
            raise
        return f"torch: {error}, param_groups"
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_value_of_a_state_is_refused_by_name_or_does_no_harm(name: str):
    subject = SUBJECTS[name]()
    state = copy.deepcopy(subject.target.state_dict())
    before, refused, taken = subject.everything(), 0, 0
    pick = random.Random(name)
    for path in leaves(state):
        for value in pick.sample(HOSTILE, 6):
            what = f"{path} = {'nothing' if value is MISSING else type(value).__name__}"
            words = refusal(subject, replaced(state, path, value))
            if words is not None:
                refused += 1
                named = any(word in words for word in (*map(str, path), *MISFITS))
                assert named, f"{what}: {words}"
                assert len(words) < 1000, what
                assert subject.everything() == before, f"{what}: refused, and changed"
                continue
            taken += 1
            assert all(math.isfinite(rate) and rate >= 0 for rate in subject.rates()), what
            subject.step()
            subject.target.load_state_dict(copy.deepcopy(subject.target.state_dict()))
            assert all(math.isfinite(rate) and rate >= 0 for rate in subject.rates()), what
            subject = SUBJECTS[name]()
    assert refused > 3 * len(list(leaves(state)))
    assert taken < refused


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("ratewise", "rates"), [math.nan], r"\['rates'\]\[0\] must be a finite number >= 0"),
        (("ratewise", "rates"), [-5.0], r"\['rates'\]\[0\] must be a finite number >= 0"),
        (("ratewise", "own"), [math.inf], r"\['own'\]\[0\]"),
        (("ratewise", "horizon"), -3, r"\['horizon'\] must be an integer >= 1, got -3"),
        (("ratewise", "rule", "base"), [math.nan], r"\['base'\]\[0\]"),
        (("ratewise", "rule", "min_lr"), [math.nan], r"\['min_lr'\]\[0\]"),
        (("ratewise", "rule", "min_lr"), [7.0], r"\['min_lr'\]\[0\] must be at most max_lr"),
        (("ratewise", "rule", "memory", "count"), 99, r"\['count'\] must be at most 20"),
        (("ratewise", "rule", "config", "window"), 2**40, r"\['values'\] must be \d+ long"),
        (("ratewise", "rule", "config", "factor"), 2.0, "factor must be a number"),
        (("ratewise", "events"), [[1] * 10], r"\['events'\]\[0\]\[6\] must be a string"),
        (("last_epoch",), "x", r"\['last_epoch'\] must be an integer >= -1"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[str, ...], value: Any, words: str):
    scheduler = GreedyLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    state = replaced(scheduler.state_dict(), path, value)
    with pytest.raises(InvalidState, match=words):
        scheduler.load_state_dict(state)
