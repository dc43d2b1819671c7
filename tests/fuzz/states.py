"""State dicts of schedulers and guards with something in them that nobody saved.

Loaded, such a state is refused as `InvalidState` (or by another named error) and nothing has
changed, or it is taken and training goes on with finite rates >= 0 and named errors.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.fuzz.harness import Fault
from tests.rules.policies import random_policy
from torch import Tensor, nn

from ratewise import GreedyConfig, GreedyLR, LearnedLR, PlannedLR, SpikeGuard, UpdateRatioLR
from ratewise.errors import RatewiseError
from ratewise.rules.plan import Plan

_QUICK: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}
_BUILDS: tuple[Callable[[Any], Any], ...] = (
    lambda optimizer: GreedyLR(optimizer, **_QUICK),
    lambda optimizer: GreedyLR(
        optimizer,
        **_QUICK | {"config": GreedyConfig(reference="previous", reset_after=3)},
        groups=[0],
    ),
    lambda optimizer: GreedyLR(optimizer, **_QUICK, schedule="cosine", total_steps=40),
    lambda optimizer: GreedyLR(optimizer, **_QUICK, warmup_steps=3, decide_every=2),
    lambda optimizer: UpdateRatioLR(optimizer, total_steps=40, measure_every=2),
    lambda optimizer: UpdateRatioLR(optimizer, ratio=0.01, per="group"),
    lambda optimizer: PlannedLR(optimizer, Plan(((1, 0.01), (9, 0.03), (40, 0.0)))),
    lambda optimizer: LearnedLR(optimizer, total_steps=40, policy=random_policy()),
)
_OPTIMIZERS = (torch.optim.SGD, torch.optim.AdamW)


class Run:
    """A training of a few weights, with a scheduler and perhaps a guard."""

    def __init__(self, build: int, optimizer: int, tensor: bool, guarded: bool) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        rates: list[Any] = [0.05, 0.01]
        if tensor:
            rates = [torch.tensor(rate) for rate in rates]
        layers = (self.model[0], self.model[2])
        groups = [
            {"params": list(layer.parameters()), "lr": rate}
            for layer, rate in zip(layers, rates, strict=True)
        ]
        more = {"foreach": False} if tensor else {}
        self.optimizer = _OPTIMIZERS[optimizer](groups, **more)
        self.scheduler = _BUILDS[build](self.optimizer)
        self.guard = None
        if guarded:
            self.guard = SpikeGuard(self.model, self.optimizer, self.scheduler, snapshot_every=3)

    def train(self, steps: int) -> None:
        generator = torch.Generator().manual_seed(steps)
        for _ in range(steps):
            x = torch.randn(4, 3, generator=generator)
            loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
            if self.guard is not None and self.guard.spiked(loss):
                continue
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss)

    @property
    def target(self) -> Any:
        """What is saved and loaded."""
        return self.scheduler if self.guard is None else self.guard

    def everything(self) -> str:
        """Return all that loading may change."""
        parts = [self.model, self.optimizer, self.scheduler, self.guard]
        return repr([plain(part.state_dict()) for part in parts if part is not None])

    def check_rates(self) -> None:
        """Raise a `Fault` unless the rates are finite and >= 0."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise Fault(f"rates {rates}")


def plain(value: Any, depth: int = 0) -> Any:
    """Return tensors as lists, so that `repr` tells everything but what lies very deep."""
    if depth > 50:
        return "deep"
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in nested dicts and lists."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner:
        if isinstance(part, dict | list) and len(path) < 20:
            yield from places(part, (*path, key))
        else:
            yield (*path, key)


def deep(depth: int = 2000) -> Any:
    """Return a list in a list in a list."""
    value: Any = 0.0
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: tuple[Callable[[], Any], ...] = (
    *(
        lambda value=value: copy.deepcopy(value)
        for value in (
            math.nan, math.inf, -math.inf, -5.0, -1, 0, 0.0, 1, 2.5, 1e300, -1e300, 5e-324, 2**63,
            -(2**63), 10**400, True, False, None, "", "x", "nan", b"x", [], {}, [None], [[]],
            {"x": 1}, {1: 2}, (1, 2), [math.nan] * 3, ["a", "b"], 1j,
        )
    ),
    lambda: torch.tensor(math.nan),
    lambda: torch.zeros(3),
    deep,
)  # fmt: skip


def mutate(state: dict[str, Any], rng: np.random.Generator) -> str:
    """Change something in a state; return what."""
    ways = list(places(state))
    way = ways[rng.integers(len(ways))]
    holder: Any = state
    for key in way[:-1]:
        holder = holder[key]
    last = way[-1]
    kind = rng.integers(5)
    where = ".".join(map(str, way))
    if kind == 0:
        del holder[last]
        return f"without {where}"
    if kind == 1 and isinstance(holder[last], dict):
        holder[last]["unknown"] = 1.0
        return f"more in {where}"
    if kind == 1 and isinstance(holder[last], list):
        holder[last].append(holder[last][0] if holder[last] else 1.0)
        return f"longer {where}"
    value = HOSTILE[rng.integers(len(HOSTILE))]()
    holder[last] = value
    return f"{where} is {type(value).__name__}"


def case(rng: np.random.Generator, folder: Path) -> str:
    build, optimizer = int(rng.integers(len(_BUILDS))), int(rng.integers(2))
    guarded = bool(rng.random() < 0.25)
    how = (build, optimizer, bool(rng.random() < 0.2) and build < 4, guarded)
    saved, run = Run(*how), Run(*how)
    saved.train(int(rng.integers(12)))
    run.train(int(rng.integers(4)))
    state = copy.deepcopy(saved.target.state_dict())
    changes = [mutate(state, rng) for _ in range(1 + int(rng.random() < 0.2))]
    return outcome(run, state, f"{type(run.target).__name__}: {', '.join(changes)}")


def outcome(run: Run, state: Any, what: str) -> str:
    """Load a state, go on if it is taken, and return what came of it."""
    before, given = run.everything(), repr(plain(state))
    try:
        run.target.load_state_dict(state)
    except RatewiseError as error:
        if run.everything() != before:
            raise Fault(f"{what}: refused, and yet something has changed") from error
        return f"refused {type(error).__name__}"
    except Exception as error:
        raise Fault(f"{what}: {type(error).__name__} while it was loaded") from error
    if repr(plain(state)) != given:
        raise Fault(f"{what}: loading changed the state that was passed")
    try:
        run.check_rates()
        run.train(6)
        run.check_rates()
        again = io.BytesIO()
        torch.save(run.target.state_dict(), again)
        again.seek(0)
        torch.load(again, weights_only=True)
    except RatewiseError as error:
        return f"taken, then {type(error).__name__}"
    except Exception as error:
        raise Fault(f"{what}: taken, then {type(error).__name__}: {error}") from error
    return "taken"


def _refuses(path: tuple[str, ...], value: Any, build: int = 0, guarded: bool = False) -> Any:
    """Return a regression: a state with this value there is refused whole."""

    def check(folder: Path) -> None:
        run = Run(build, 0, False, guarded)
        run.train(5)
        state = copy.deepcopy(run.target.state_dict())
        holder: Any = state
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        if not (came := outcome(run, state, ".".join(path))).startswith("refused InvalidState"):
            raise Fault(f"{'.'.join(path)} = {value!r}: {came}")

    return check


_OURS, _RULE = ("ratewise",), ("ratewise", "rule")
_DISPLACEMENT = (*_RULE, "displacement")
REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "a probe of next to nothing": _refuses((*_DISPLACEMENT, "probe"), [1e-30, 1.0], build=4),
    "a rate of NaN": _refuses((*_OURS, "rates"), [math.nan, 0.01]),
    "a negative rate": _refuses((*_OURS, "rates"), [-5.0, 0.01]),
    "an infinite rate": _refuses((*_OURS, "rates"), [math.inf, 0.01]),
    "own rates of NaN": _refuses((*_OURS, "own"), [math.nan, 0.01]),
    "a base of NaN": _refuses((*_RULE, "base"), [math.nan, 0.01], build=4),
    "a full rate of NaN": _refuses((*_RULE, "full"), [math.nan, 0.01], build=4),
    "a height of NaN": _refuses((*_OURS, "height"), math.nan, build=4),
    "a negative horizon": _refuses((*_OURS, "horizon"), -3, build=5),
    "a guard's first is a word": _refuses(("first",), "x", guarded=True),
    "a guard's best is a word": _refuses(("best",), "x", guarded=True),
}
