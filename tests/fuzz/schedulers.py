"""Schedulers under sequences of calls that no ordinary loop makes.

Whatever comes, an error is a named one, a call that raises changes nothing, rates stay finite and
within their bounds, an interrupted step leaves the rates that it found, and a run that is saved
and loaded goes on to the bit.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.fuzz.harness import Fault
from tests.rules.policies import random_policy
from torch import Tensor, nn

from ratewise import GreedyConfig, GreedyLR, LearnedLR, SpikeGuard, UpdateRatioLR
from ratewise.errors import (
    NonFiniteLoss,
    OverwrittenRateWarning,
    RatewiseError,
    SettingsDifferWarning,
)

_OPTIMIZERS: tuple[Callable[..., Any], ...] = (
    torch.optim.SGD,
    lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
)
_RATES = (1e-30, 1e-12, 1e-4, 0.01, 0.1, 1.0, 1e3)
_LOSSES: tuple[Callable[[], Any], ...] = (
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: 1e308,
    lambda: -1e308,
    lambda: 5e-324,
    lambda: 10**400,
    lambda: 0,
    lambda: "0.5",
    lambda: [0.5],
    lambda: 1j,
    lambda: True,
    lambda: np.float32(0.5),
    lambda: np.array([0.5]),
    lambda: np.array([0.5, 0.5]),
    lambda: torch.tensor(0.5, requires_grad=True),
    lambda: torch.tensor([[0.5]], dtype=torch.bfloat16),
    lambda: torch.tensor([0.5, 1.0]),
    lambda: torch.tensor(0.5, device="meta"),
    lambda: torch.tensor(True),
    lambda: torch.tensor([0.5]).to_sparse(),
    lambda: torch.quantize_per_tensor(torch.tensor([0.5]), 0.1, 0, torch.quint8),
)
_LARGEST = 1e30  #: A rate that float32 can still hold when it is multiplied.
_FACTORS = (0.5, 2.0, 1e300, 1e-300, 0.0, -1.0, math.nan, math.inf, "x", None, True, 10**400)


class Stop(Exception):
    """Raised by a closure."""


class Run:
    """A training of a few weights, described by plain data so that it can be made again."""

    def __init__(self, described: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.described = described
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        layers = (self.model[0], self.model[2])
        groups = [
            {"params": list(layer.parameters()), "lr": rate}
            for layer, rate in zip(layers, described["rates"], strict=True)
        ]
        self.spare = nn.Parameter(torch.ones(2))
        self.optimizer = _OPTIMIZERS[described["optimizer"]](groups)
        self.scheduler = _build(self.optimizer, described["kind"], described["options"])
        self.steps = 0
        if described.get("grown"):
            self.grow()

    def loss(self) -> Tensor:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(self.steps))
        return (self.model(x) - x.sum(1, keepdim=True)).square().mean() + self.spare.sum() * 1e-3

    def backward(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.steps += 1
        return loss

    def train(self) -> None:
        loss = self.backward()
        self.optimizer.step()
        self.scheduler.step(loss if torch.isfinite(loss) else 1.0)

    def grow(self) -> None:
        self.optimizer.add_param_group({"params": [self.spare], "lr": 0.01})
        self.described = {**self.described, "grown": True}

    def everything(self) -> str:
        """Return all that a refused call must leave."""
        scheduler = self.scheduler.state_dict()  # first: it takes in groups that were added
        return repr(_plain([self.model.state_dict(), self.optimizer.state_dict(), scheduler]))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _build(optimizer: Any, kind: str, options: dict[str, Any]) -> Any:
    if kind == "learned":
        return LearnedLR(optimizer, policy=random_policy(), **options)
    return {"greedy": GreedyLR, "ratio": UpdateRatioLR}[kind](optimizer, **options)


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Return a description of a run."""

    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    kind = pick("greedy", "greedy", "ratio", "learned")
    options: dict[str, Any] = {"groups": pick(None, None, [0], [1])}
    if kind == "greedy":
        options |= {"factor": pick(0.5, 0.95, 0.999), "patience": pick(0, 1, 3)}
        options |= {"on_nonfinite": pick("bad", "skip", "raise")}
        criterion = pick("count", "count", "significance")
        window = pick(1, 2, 5) if criterion == "count" else pick(6, 7, 12)
        options |= {"criterion": criterion, "window": window}
        rule = {"reference": pick("previous", "best"), "reset_after": pick(None, 2)}
        options["config"] = GreedyConfig(**rule)
        options |= {"decide_every": pick(1, 1, 3), "warmup_steps": pick(0, 0, 3)}
        options |= pick({}, {"schedule": "cosine", "total_steps": 15})
    elif kind == "ratio":
        options |= {"per": pick("tensor", "group", "model"), "measure_every": pick(1, 3)}
        options |= {"total_steps": pick(None, 5, 15), "warmup_steps": pick(0, 3)}
    else:
        options |= {"total_steps": pick(5, 15)}
    rates = [float(_RATES[rng.integers(len(_RATES))]) for _ in range(2)]
    return {
        "kind": kind,
        "options": options,
        "rates": rates,
        "optimizer": int(rng.integers(len(_OPTIMIZERS))),
    }


def case(rng: np.random.Generator, folder: Path) -> str:
    run = Run(draw(rng))
    refused = 0
    for _ in range(int(rng.integers(1, 16))):
        deed = _DEEDS[rng.integers(len(_DEEDS))]
        try:
            run, said = deed(run, rng)
        except Fault as fault:
            raise Fault(f"{deed.__name__[1:]} on {run.described}: {fault}") from fault
        refused += said
        _check_rates(run)
        if max(float(group["lr"]) for group in run.optimizer.param_groups) > _LARGEST:
            break  # no optimizer can use it
    return (
        f"{run.described['kind']}: held, some calls refused"
        if refused
        else (f"{run.described['kind']}: held")
    )


def _check_rates(run: Run) -> None:
    rates = [float(group["lr"]) for group in run.optimizer.param_groups]
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
        raise Fault(f"rates {rates} of {run.described}")


def _tried(run: Run, call: Callable[[], Any]) -> bool:
    """Make a call; return whether it was refused, which must change nothing."""
    before = run.everything()
    try:
        call()
    except RatewiseError as error:
        if run.everything() != before:
            raise Fault(f"refused ({type(error).__name__}), and yet something changed") from error
        return True
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {error}") from error
    return False


def _trains(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    for _ in range(int(rng.integers(1, 5))):
        run.train()
    return run, False


def _hears(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    loss = _LOSSES[rng.integers(len(_LOSSES))]()
    run.backward()
    run.optimizer.step()
    call = run.scheduler.step if rng.random() < 0.7 else run.scheduler.observe
    return run, _tried(run, lambda: call(loss))


def _repeats(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    return run, _tried(run, lambda: run.scheduler.step(0.5))


def _rescales(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    factor = _FACTORS[rng.integers(len(_FACTORS))]
    return run, _tried(run, lambda: run.scheduler.rescale(factor))


def _anneals(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    if not hasattr(run.scheduler, "anneal"):
        return run, False
    steps = (1, 5, 0, -1, 2**63, 1.5, "x")[rng.integers(7)]
    return run, _tried(run, lambda: run.scheduler.anneal(steps))


def _grows(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    if not run.described.get("grown"):
        run.grow()
    return run, False


def _is_interrupted(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    """A closure raises: rates and weights are those before, whatever is asked next."""

    def closure() -> Any:
        raise Stop

    run.train()  # the schedule is where the optimizer is, and has no reason to move the rates
    rates = [float(group["lr"]) for group in run.optimizer.param_groups]
    weights = _plain(run.model.state_dict())
    with contextlib.suppress(Stop):
        run.optimizer.step(closure)
    saved = [float(group["lr"]) for group in run.optimizer.state_dict()["param_groups"]]
    if saved != rates:
        raise Fault(f"rates {saved} saved after an interrupted step, {rates} before")
    if repr(_plain(run.model.state_dict())) != repr(weights):
        raise Fault("an interrupted step has changed weights")
    run.scheduler.state_dict()
    now = [float(group["lr"]) for group in run.optimizer.param_groups]
    if now != rates:
        raise Fault(f"rates {now} after an interrupted step, {rates} before")
    return run, False


def _resumes(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    """Saved and loaded, it is the same run, and stays it for three steps."""
    file = io.BytesIO()
    parts = {"scheduler": run.scheduler, "model": run.model, "optimizer": run.optimizer}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    spare = run.spare.detach().clone()
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = Run(run.described)
    again.steps = run.steps
    again.model.load_state_dict(state["model"])
    with torch.no_grad():
        again.spare.copy_(spare)
    order = ["optimizer", "scheduler"] if rng.random() < 0.5 else ["scheduler", "optimizer"]
    try:
        for name in order:
            getattr(again, name).load_state_dict(copy.deepcopy(state[name]))
        for _ in range(3):
            if (was := run.everything()) != (now := again.everything()):
                raise Fault(f"resumed ({order}) it is another run: {_difference(was, now)}")
            said = [_trained(one) for one in (run, again)]
            if said[0] != said[1]:
                raise Fault(f"resumed it says {said[1]!r} instead of {said[0]!r}")
    except RatewiseError as error:
        raise Fault(f"its own state is refused: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise Fault(f"its own state: {type(error).__name__}") from error
    return again, False


def _trained(run: Run) -> str:
    """Make a step; return what was said of a loss that is not finite, one of before perhaps."""
    try:
        run.train()
    except NonFiniteLoss as error:
        return str(error)
    return ""


def _difference(was: str, now: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), 0)
    return f"...{was[max(0, at - 60) : at + 40]}... became ...{now[max(0, at - 60) : at + 40]}..."


def _is_copied(run: Run, rng: np.random.Generator) -> tuple[Run, bool]:
    before = run.everything()
    again = copy.deepcopy(run)
    if again.everything() != before:
        raise Fault("a copy differs")
    again.train()
    if run.everything() != before:
        raise Fault("a copy's step changed the original")
    return run, False


_DEEDS = (
    _trains, _trains, _hears, _hears, _repeats, _rescales, _anneals, _grows, _is_interrupted,
    _resumes, _resumes, _is_copied,
)  # fmt: skip


def _interrupted_after_sixty_steps(folder: Path) -> None:
    run = Run(
        {"kind": "ratio", "options": {"total_steps": 300}, "rates": [1e-4] * 2, "optimizer": 2}
    )
    for _ in range(60):
        run.train()
    _is_interrupted(run, np.random.default_rng(0))


def _a_group_that_is_not_scheduled(folder: Path) -> None:
    run = Run({"kind": "greedy", "options": {"groups": [0]}, "rates": [0.1] * 2, "optimizer": 0})
    run.grow()
    for deed in (_trains, _resumes, _rescales, _resumes):
        run, _ = deed(run, np.random.default_rng(0))
    guard = SpikeGuard(run.model, run.optimizer, run.scheduler, tolerate=0)
    for loss in (1.0, 0.9, math.nan):
        guard.spiked(loss)


def _rescaled_to_infinity(folder: Path) -> None:
    run = Run({"kind": "greedy", "options": {}, "rates": [0.1] * 2, "optimizer": 0})
    for _ in range(2):
        _tried(run, lambda: run.scheduler.rescale(1e300))
        _check_rates(run)


def _odd_losses(folder: Path) -> None:
    for make in _LOSSES:
        options = {"on_nonfinite": "bad"}
        run = Run({"kind": "greedy", "options": options, "rates": [0.1] * 2, "optimizer": 0})
        _tried(run, lambda run=run, make=make: run.scheduler.step(make()))
        _check_rates(run)


def _a_rate_of_zero(folder: Path) -> None:
    try:
        Run({"kind": "ratio", "options": {}, "rates": [0.0, 0.1], "optimizer": 0})
    except RatewiseError:
        return
    raise Fault("lr=0 on a steered group is taken, and trains nothing")


def _steered_twice(folder: Path) -> None:
    run = Run({"kind": "ratio", "options": {}, "rates": [1e-3] * 2, "optimizer": 0})
    newer = UpdateRatioLR(run.optimizer)
    for _ in range(20):
        run.backward()
        run.optimizer.step()
        newer.step()
    largest = max(float(p.detach().abs().max()) for p in run.model.parameters())
    if not largest < 100:
        raise Fault(f"two schedulers on one optimizer: weights of {largest:.3g}")


def _a_rate_that_somebody_else_writes(folder: Path) -> None:
    options = {"patience": 2, "window": 3}
    run = Run({"kind": "greedy", "options": options, "rates": [0.1] * 2, "optimizer": 0})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(60):
            for group in run.optimizer.param_groups:
                group["lr"] = 0.1 * (1 - step / 80)
            run.backward()
            run.optimizer.step()
            run.scheduler.step(2.0 + math.cos(step / 6))
    told = [w for w in caught if issubclass(w.category, OverwrittenRateWarning)]
    if len(told) != 1:
        raise Fault(f"a rate that is written at each step is told {len(told)} times")


def _called_once_an_epoch(folder: Path) -> None:
    options = {"total_steps": 60}
    run = Run({"kind": "ratio", "options": options, "rates": [0.1] * 2, "optimizer": 0})
    for step in range(60):
        run.backward()
        run.optimizer.step()
        if step % 20 == 19:
            run.scheduler.step()
    if not (last := float(run.optimizer.param_groups[0]["lr"])) < 1e-3:
        raise Fault(f"called once an epoch it ends at {last:.3g}, not annealed")


def _rates_of_groups(folder: Path) -> None:
    options = {"ratio": 0.01, "start": 1.0}
    run = Run({"kind": "ratio", "options": options, "rates": [1e-4, 1e-2], "optimizer": 0})
    for _ in range(60):
        run.backward()
        run.optimizer.step()
        run.scheduler.step()
    counts = [len(group["params"]) for group in run.optimizer.param_groups]
    slow, fast = (part.max() for part in run.scheduler.ratios().split(counts)[:2])
    if not slow < 0.1 * fast:
        raise Fault(f"rates of 1e-4 and 1e-2 move at ratios {slow:.3g} and {fast:.3g}")


def _a_longer_run_on_resume(folder: Path) -> None:
    how = {"kind": "ratio", "rates": [0.1] * 2, "optimizer": 0}
    short = Run({**how, "options": {"total_steps": 100}})
    longer = Run({**how, "options": {"total_steps": 500}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsDifferWarning)
        longer.scheduler.load_state_dict(short.scheduler.state_dict())
    if longer.scheduler.horizon != 500:
        raise Fault(f"total_steps=500 became {longer.scheduler.horizon} on resume")


def _a_rounding_above_its_bound(folder: Path) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    options: dict[str, Any] = {"factor": 0.1, "patience": 0, "min_lr": 1e-3, "reset_start": 1}
    scheduler = GreedyLR.like_transformers(optimizer, **options)
    for _ in range(4):
        optimizer.step()
        scheduler.step(1.0)
    if scheduler.last_reason != "reset":
        raise Fault(f"0.1 * 0.1 * 0.1 is not seen as min_lr=0.001: {scheduler.last_reason}")


def _a_sum_that_overflows(folder: Path) -> None:
    options = {"on_nonfinite": "raise"}
    run = Run({"kind": "greedy", "options": options, "rates": [0.1] * 2, "optimizer": 0})
    run.scheduler.observe(1.5e308)
    run.backward()
    run.optimizer.step()
    before = run.scheduler.state_dict()
    try:
        run.scheduler.step(1.5e308)
    except NonFiniteLoss:
        if run.scheduler.state_dict() != before:
            raise Fault("refused (NonFiniteLoss), and yet something changed") from None
        return
    raise Fault("losses whose sum is infinite are taken under on_nonfinite='raise'")


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "a checkpoint after an interrupted step": _interrupted_after_sixty_steps,
    "a group that is not scheduled": _a_group_that_is_not_scheduled,
    "rescaled to infinity": _rescaled_to_infinity,
    "sparse and quantised losses": _odd_losses,
    "a rate of zero under steering": _a_rate_of_zero,
    "two steering schedulers on one optimizer": _steered_twice,
    "a rate that somebody else writes": _a_rate_that_somebody_else_writes,
    "called once an epoch": _called_once_an_epoch,
    "rates of groups are erased": _rates_of_groups,
    "a longer run on resume": _a_longer_run_on_resume,
    "a rounding above min_lr": _a_rounding_above_its_bound,
    "losses whose sum overflows": _a_sum_that_overflows,
}
