"""Rates that nobody else has touched are replaced: the same as looking at each and writing it."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch

from ratewise import GreedyLR
from ratewise.schedulers.rates import HostRates

STEPS = 60


def follow(seed: int, busy: float) -> list[Any]:
    """Return all that can be seen of a scheduler whose rates others change in some of the steps."""
    rng = random.Random(seed)
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.02)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scheduler = GreedyLR(optimizer, schedule="linear", total_steps=STEPS, patience=1, window=1)
    seen: list[Any] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(STEPS):
            if rng.random() < busy:
                group = rng.choice(optimizer.param_groups)
                times = rng.choice([1.0, 0.5, 2.0])
                group["lr"] = rng.choice([0.05, group["lr"] * times, group["lr"] + 0.0])
            if step == 40:
                scheduler.load_state_dict(scheduler.state_dict())
            optimizer.step()
            scheduler.step(rng.random())
            rates: Any = scheduler._rates
            found = [(w.lost, w.strange, w.missing, w._usual, w._ours) for w in rates.watches]
            last = [(w._found, w._wrote) for w in rates.watches] if rates.looking else []
            seen.append((scheduler.get_last_lr(), rates.state(optimizer.param_groups), found, last))
    return [*seen, [str(one.message) for one in caught]]


@pytest.mark.parametrize("busy", [0.0, 0.05, 0.3, 1.0])
def test_they_are_what_looking_and_writing_makes_them(monkeypatch, busy):
    count = 0

    def counted(self: HostRates, groups: Any, own: Any) -> None:
        nonlocal count
        count += 1
        replace(self, groups, own)

    replace = HostRates.replace
    monkeypatch.setattr(HostRates, "replace", counted)
    quick = [follow(seed, busy) for seed in range(5)]
    assert count > 0 or busy == 1.0
    monkeypatch.setattr(HostRates, "untouched", lambda self, groups: False)
    assert quick == [follow(seed, busy) for seed in range(5)]


def test_the_comparison_notices_a_rate_of_others_that_is_not_looked_at(monkeypatch):
    looked = [follow(seed, 0.3) for seed in range(5)]
    monkeypatch.setattr(HostRates, "untouched", lambda self, groups: True)
    assert looked != [follow(seed, 0.3) for seed in range(5)]
