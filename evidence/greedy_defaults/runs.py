"""The runs of a unit: on the grid of rates, at the tuned rates, and the negative control."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from evidence import cells, simulated
from evidence.cells import Cell
from evidence.greedy_defaults import numbers, plan
from evidence.greedy_defaults.plan import CONTROL, NANO_RATE, OURS, Candidate, Settings, Unit
from evidence.greedy_defaults.rules import Fed
from evidence.results import Result
from evidence.simulated import Planned
from ratewise.simulate import Trajectories


def made(settings: Settings, chosen: Candidate | None, unit: Unit) -> list[Result]:
    """Train a unit's runs: at every rate; those that judge at each rule's tuned rate."""
    cell, rules = unit.cell, plan.rules(settings, unit.part, chosen)
    if unit.part == "given":
        given = dict.fromkeys(rules, (NANO_RATE,))
        return _short(_trained(cell, rules, given, settings.seeds, True))
    grid, tuning = tuple(settings.grid(cell.optimizer)), settings.tuning_seeds
    found = _trained(cell, rules, dict.fromkeys(rules, grid), tuning, False)
    if unit.part == "develop":
        return _short(found)
    seen = {(numbers.rate(x), x.seed): x.losses[3:] for x in found if x.method == OURS}
    fed = partial(_fed, cell, rules[OURS], seen, tuning)
    found += fed(grid, tuning, False)
    rates = {name: (grid[k],) for name, k in numbers.tuned(found).items()}
    judged = _trained(cell, rules, rates, settings.seeds, True)
    if open_ := numbers.undecided(judged):
        again = {name: rules[name] for name in (OURS, *open_)}
        judged += _trained(cell, again, rates, settings.more, True)
    return _short([*found, *judged, *fed(rates[CONTROL], settings.seeds, True)])


def _trained(
    cell: Cell, rules: dict[str, Any], rates: dict[str, Any], seeds: Any, judging: bool
) -> list[Result]:
    planned = [
        Planned({"optimizer": cell.optimizer}, name, rule, lr, lr, seed)
        for name, rule in rules.items()
        for lr in rates[name]
        for seed in seeds
    ]
    task = cells.task(cell, judging=judging)
    found = simulated.trained(str(cell), task, cell.optimizer, planned, _marks, steps=cell.steps)
    return [one._replace(role="judged" if judging else "tuning") for one in found]


def _fed(
    cell: Cell, rule: Any, seen: Any, tuning: Any, rates: Any, seeds: Any, judging: bool
) -> list[Result]:
    """Train the negative control: the rule sees another run's losses at its rate, shuffled."""
    losses = []
    for lr in rates:
        for seed in seeds:
            other = torch.tensor(seen[lr, tuning[(seed + 1) % len(tuning)]], dtype=torch.float64)
            drawn = torch.Generator().manual_seed(seed)
            losses.append(other[torch.randperm(len(other), generator=drawn)])
    control = {CONTROL: Fed(rule, torch.stack(losses, 1))}
    return _trained(cell, control, {CONTROL: rates}, seeds, judging)


def _marks(result: Trajectories, row: int) -> list[float]:
    """Return a run's ends, and then its losses, which are not kept."""
    return [*simulated.ends(result, row), *result.loss[row].tolist()]


def _short(found: list[Result]) -> list[Result]:
    return [one._replace(losses=one.losses[:3]) for one in found]
