"""Rules over a stack: each run's own, in whichever runtime, as it would be alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import OPTIMIZERS, regression
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ratewise.errors import InvalidArgument, UnknownName, WrongType
from ratewise.rules.fixed import FIXED, fixed_scale
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.plateau import PlateauConfig
from ratewise.schedulers.greedy import GreedyLR
from ratewise.simulate import Fixed, Greedy, Plateau, Signals, Warmup, run
from ratewise.simulate import rule as rules
from ratewise.simulate.rule import Mixture, as_rule

STEPS = 60
CONFIGS = [
    GreedyConfig(),
    GreedyConfig(factor=0.5, patience=0, window=1, reference="previous"),
    GreedyConfig(factor=0.7, patience=1, window=3, warmup=2, cooldown=1, stage="hold"),
    GreedyConfig(factor=0.9, patience=1, window=2, reset_after=2, on_nonfinite="skip"),
    GreedyConfig("significance", 0.8, window=8, plateau="bad"),
]


def zeros(runs: int) -> Tensor:
    return torch.zeros(runs, dtype=torch.float64)


def losses(runs: int, steps: int = STEPS) -> Tensor:
    """Losses that fall and rise, [steps, runs], and the odd one that is no number."""
    draw = torch.Generator().manual_seed(runs)
    trend = torch.linspace(0, 5, steps, dtype=torch.float64)[:, None]
    values = 2 + torch.cos(trend + torch.rand(runs, generator=draw, dtype=torch.float64) * 3)
    values += 0.3 * torch.randn(steps, runs, generator=draw, dtype=torch.float64)
    odd = torch.rand(steps, runs, generator=draw)
    values[odd < 0.05] = math.nan
    values[odd > 0.97] = math.inf
    return values


def follow(rule: Any, seen: Tensor) -> Tensor:
    """Return a rule's scales, [steps + 1, runs], as it is shown the losses [steps, runs]."""
    steps, runs = seen.shape
    scale, state = rule.start(zeros(runs), steps)
    scales = [scale.clone()]
    for step in range(steps):
        own = Signals(step + 1, seen[step], zeros(runs), zeros(runs))
        scale, state = rule.update(state, own)
        scales.append(scale.clone())
    return torch.stack(scales)


def follow_mixture(several: list[Any], seen: Tensor) -> Tensor:
    steps, runs = seen.shape
    mixture = Mixture(several, zeros(runs), steps)
    scales = [mixture.scale.clone()]
    for step in range(steps):
        mixture.update(Signals(step + 1, seen[step], zeros(runs), zeros(runs)))
        scales.append(mixture.scale.clone())
    return torch.stack(scales)


@dataclass(frozen=True)
class Inverse:
    """A user's rule: 1 / sqrt(t), halved for good once the loss has been above a limit."""

    limit: float = 1e9

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        return zero + 1.0, zero + 1.0

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        state = torch.where(seen.loss > self.limit, state / 2, state)
        return state / math.sqrt(seen.step + 1), state


class Listed(Inverse):
    """One that cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Nested(Inverse):
    """One that says it can, and cannot."""

    parts: Any = ()


A, B, C = Greedy(CONFIGS[1]), Plateau(PlateauConfig(factor=0.5, patience=1)), Fixed("cosine")
LISTED = Listed(2.0)


@pytest.mark.parametrize(
    "several",
    [
        [A] * 4,
        [A, B, C, Greedy(CONFIGS[2], anchor="linear")],
        [A, B, A, B, A, B],
        [A, A, B, A, C, B, B],
        [B, A, A, C, C, A],
        [LISTED, A, LISTED, Listed(2.0)],
        [Nested(2.0, [1]), A, Inverse(2.0), Inverse(2.0)],
    ],
    ids=["one", "all different", "even", "scattered", "blocks", "unhashable", "nested"],
)
def test_a_mixture_is_each_of_its_rules_alone(several):
    seen = losses(len(several))
    together = follow_mixture(several, seen)
    for one, rule in enumerate(several):
        alone = follow(rule, seen[:, [one]])
        assert torch.equal(together[:, one], alone[:, 0]), one
    if len({*map(id, several)}) > 1:
        assert not torch.equal(together[:, 0], together[:, 1])


@pytest.mark.parametrize("name", FIXED)
def test_fixed_rules_are_those_of_the_library(name):
    scales = follow(Fixed(name), losses(2))
    expected = [fixed_scale(name, step, STEPS) for step in range(STEPS + 1)]
    assert scales[:, 0].tolist() == scales[:, 1].tolist() == expected


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("anchor", [None, "cosine"])
def test_the_three_runtimes_of_greedy_give_equal_scales(config, anchor, monkeypatch):
    """Floats for one run, NumPy for several on the CPU, torch for several elsewhere."""
    rule, seen, used = Greedy(config, anchor, (0.2, 5.0)), losses(5), []
    by_float = torch.cat([follow(rule, seen[:, [one]]) for one in range(5)], 1)
    init, update = rules.greedy.init, rules.greedy.update

    def noted(state: Any, *, xp: Any, **others: Any) -> Any:
        used.append(xp)
        return update(state, xp=xp, **others)

    def elsewhere(config: GreedyConfig, *, zero: Any, **others: Any) -> Any:
        return init(config, zero=torch.as_tensor(zero), **{**others, "xp": torch})

    monkeypatch.setattr(rules.greedy, "update", noted)
    by_numpy = follow(rule, seen)
    monkeypatch.setattr(rules.greedy, "init", elsewhere)
    by_torch = follow(rule, seen)
    assert used == [np] * STEPS + [torch] * STEPS
    assert torch.equal(by_numpy, by_float)
    assert torch.equal(by_numpy, by_torch)
    assert len(set(by_float[:, 0].tolist())) > 3
    assert not torch.equal(by_float, follow(Greedy(config, "linear", (0.2, 5.0)), seen))


@pytest.mark.parametrize("config", CONFIGS)
def test_greedy_is_the_rule_of_the_library(config):
    seen = losses(3)
    scales = follow(Greedy(config, "cosine", (0.5, 2.0)), seen)
    for one in range(3):
        alone = FloatGreedy(config, GreedyLimits((0.5,), (2.0,), (0.0,)))
        for step in range(STEPS):
            alone.update(float(seen[step, one]))
            expected = alone.scale[0] * fixed_scale("cosine", step + 1, STEPS)
            assert float(scales[step + 1, one]) == expected


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_greedy_with_an_end_is_the_scheduler_s(warmup, share):
    config, seen = CONFIGS[-1], losses(4)
    end = f"stable-decay:{share}"
    rule = Greedy(config, end)
    scales = follow(Warmup(rule, warmup) if warmup else rule, seen)
    for one in range(4):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        alone = GreedyLR(
            optimizer, config=config, schedule=end, total_steps=STEPS, warmup_steps=warmup
        )
        for step in range(STEPS):
            assert float(scales[step, one]) == optimizer.param_groups[0]["lr"], step
            optimizer.step()
            alone.step(float(seen[step, one]))
    assert scales[-1].tolist() == [0.0] * 4
    assert len(set(scales[warmup : STEPS // 2, 0].tolist())) > 2
    assert not torch.equal(scales, follow(Warmup(rule, warmup + 1), seen))


def test_a_ramp_comes_before_a_rule_that_then_sees_a_shorter_run():
    scales = follow(Warmup(Fixed("stable-decay:0.5"), 3), losses(2, 11))
    assert scales[:, 0].tolist() == [0.25, 0.5, 0.75, *[1.0] * 5, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(InvalidArgument, match="steps"):
        Warmup(Fixed(), 0)


def test_plateau_is_torch_s():
    config = PlateauConfig(factor=0.5, patience=1, cooldown=1, eps=0.0)
    seen = losses(4)
    scales = follow(Plateau(config), seen)
    for one in range(4):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        alone = ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, eps=0.0)
        for step in range(STEPS):
            alone.step(float(seen[step, one]))
            assert float(scales[step + 1, one]) == optimizer.param_groups[0]["lr"]
    assert scales.min() < 0.1


def test_names_and_settings_stand_for_rules():
    assert as_rule("cosine") == Fixed("cosine")
    assert as_rule("greedy") == Greedy()
    assert as_rule("greedy-cosine") == Greedy(anchor="cosine")
    assert as_rule("stable-decay:0.3") == Fixed("stable-decay:0.3")
    assert as_rule("plateau") == Plateau()
    assert as_rule(CONFIGS[1]) == Greedy(CONFIGS[1])
    assert as_rule(PlateauConfig(patience=2)) == Plateau(PlateauConfig(patience=2))
    assert as_rule(LISTED) is LISTED


def test_what_is_no_rule_is_named():
    with pytest.raises(UnknownName, match="unknown rule 'cosin': did you mean 'cosine'"):
        as_rule("cosin")
    with pytest.raises(UnknownName, match="unknown rule 'cosin'"):
        Greedy(anchor="cosin")
    for value in (3, None, FloatGreedy, object()):
        with pytest.raises(WrongType, match=r"^rule must be a rule, got"):
            as_rule(value)
    for bounds in ((0.5, 0.9), (1.1, 2.0), (-1.0, 2.0), (0.1, math.inf), (math.nan, 2.0)):
        with pytest.raises(InvalidArgument, match=r"^bounds must be 0 <= least <= 1 <= greatest"):
            Greedy(bounds=bounds)


def test_a_user_s_rule_schedules_a_run_and_hears_all_that_it_shows():
    heard: list[Signals] = []

    class Watched(Inverse):
        def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
            heard.append(Signals(seen.step, *(part.clone() for part in seen[1:])))
            return super().update(state, seen)

    options: dict[str, Any] = {"runs": 3, "steps": 8, "lr": 0.1, "seed": [2] * 3, "chunk": 3}
    result = run(regression(), OPTIMIZERS["sgd"], [Watched(), "constant", Watched()], **options)
    assert result.lr[0] == pytest.approx(0.1 / np.sqrt(np.arange(1, 9)))
    assert result.lr[1] == pytest.approx(0.1)
    assert [seen.step for seen in heard] == [*range(1, 9)], "equal rules decide together"
    for step, seen in enumerate(heard):
        for name, part in zip(Signals._fields[1:], seen[1:], strict=True):
            history = result.seen if name == "loss" else getattr(result, name)
            assert part.dtype == torch.float64
            assert part.tolist() == history[[0, 2], step].tolist()
    assert not np.array_equal(result.loss[0], result.loss[1])


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(("steps", "criterion"), [(300, "significance"), (299, "count")])
def test_the_runs_length_decides_the_criterion_where_none_is_named(steps, criterion, runs):
    seen = losses(runs, steps)
    end = {"significance": "stable-decay:0.7", "count": None}[criterion]
    named = follow(Greedy(GreedyConfig(criterion), anchor=end), seen)
    other = follow(Greedy(GreedyConfig({300: "count", 299: "significance"}[steps])), seen)
    assert torch.equal(follow(as_rule("greedy"), seen), named)
    assert torch.equal(follow(as_rule(GreedyConfig()), seen), named)
    assert not torch.equal(named, other)
    cosine = follow(Greedy(GreedyConfig("count"), anchor="cosine"), seen)
    assert torch.equal(follow(as_rule("greedy-cosine"), seen), cosine)
