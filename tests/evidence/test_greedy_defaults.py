"""GreedyLR's defaults in miniature: the study goes on, chooses by rule, keeps data apart."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evidence import cells as tasks
from evidence import results
from evidence.__main__ import page_of
from evidence.cells import Cell
from evidence.greedy_defaults import numbers, plan
from evidence.greedy_defaults import run as running
from evidence.greedy_defaults.numbers import Judged, Numbers
from evidence.greedy_defaults.plan import CONTROL, FALL, OURS, SEVEN, Settings
from evidence.greedy_defaults.rules import Epochs, Fed
from evidence.how import How
from evidence.results import Result, Results
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.plateau import PlateauConfig
from ratewise.simulate import Greedy, Plateau, Signals

SMALL = Settings(
    develop=(Cell("diabetes", "mlp", 8, 30, "sgd"),),
    judged=(Cell("wine", "mlp", 8, 30, "adamw"), Cell("digits", "mlp", 8, 20, "sgd", True)),
    given=(),
    factors=(0.8,),
    patiences=(0,),
    windows=(20,),
    shares=(0.2,),
    rates=3,
)


def test_a_miniature_goes_on_where_it_stopped_and_a_half_done_page_says_so(tmp_path: Path):
    page, path = tmp_path / "page.md", tmp_path / "greedy_defaults.parquet"
    how = How(tmp_path, page, progress=False)
    running.run(how, replace(SMALL, judged=()))
    assert "Nothing is judged yet" in page.read_text()
    running.run(how, replace(SMALL, judged=SMALL.judged[:1]))
    before = Results(path)
    running.run(replace(how, page_only=True), SMALL)
    assert "Only 1 of 2 cells are judged yet" in page.read_text()
    running.run(how, SMALL)
    after = Results(path)
    assert len(after._units) == 4
    assert all(after.of(name) == before.of(name) for name in before._units)  # not made again
    text = page.read_text()
    for needed in (
        "factor=0.8, patience=0",
        "strangers' losses",
        "digits mlp",
        "further",
        "claims",
    ):
        assert needed in text, needed
    assert "Only" not in text
    assert f"{sum(map(len, after._units.values())):,} trainings" in text
    assert page.with_suffix(".png").stat().st_size > 10_000
    stamp = path.stat().st_mtime_ns
    running.run(how, SMALL)
    assert (page.read_text(), path.stat().st_mtime_ns) == (text, stamp)


def test_data_that_developed_does_not_judge():
    developed = {cell.data for cell in plan.DEVELOP}
    judged = {cell.data for cell in (*plan.JUDGED, plan.NANO)}
    assert not developed & judged
    assert judged == {
        "mnist1d", "bent teachers", "wavy teachers", "cifar", "shakespeare", "kjv", "polarity",
    }  # fmt: skip
    for cells in (plan.DEVELOP, plan.JUDGED):
        assert len(set(cells)) == len(cells)
        assert {cell.batch for cell in cells} == {4, 16, 128}
        assert {cell.optimizer for cell in cells} == {"sgd", "adamw"}
        assert {cell.further for cell in cells} == {True, False}
        assert {cell.steps for cell in cells} >= {300, 1500}
    assert sum(cell.steps == 6000 for cell in plan.JUDGED) == 2
    # where it is cut, each data set has its share
    for done in range(7, len(plan.JUDGED), 7):
        counts = Counter(cell.data for cell in plan.JUDGED[:done])
        assert len(counts) == 7
        assert max(counts.values()) - min(counts.values()) <= 2


def test_what_chooses_a_rate_does_not_judge_and_neither_is_trained_on():
    cell = Cell("wine", "mlp", 8, 30, "adamw")
    choosing, judging = (tasks.task(cell, judging=judging) for judging in (False, True))
    apart = choosing.held_out
    assert apart == judging.held_out == 178 // 8
    (x, _), (y, _) = choosing.data, judging.data
    assert torch.equal(x[:-apart], y[:-apart])
    rows = [{tuple(row) for row in part.tolist()} for part in (x[:-apart], x[-apart:], y[-apart:])]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


def test_further_training_begins_with_what_was_learned_on_the_other_classes(monkeypatch):
    monkeypatch.setattr(tasks, "BEFORE", 20)
    tasks._before.cache_clear()
    task = tasks.task(Cell("digits", "mlp", 8, 30, "adamw", True), judging=True)
    before = tasks._before("digits", "mlp")
    tasks._before.cache_clear()
    assert set(task.data[1].tolist()) == {5, 6, 7, 8, 9}
    torch.manual_seed(3)
    first, second = (list(task.model().parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[:-2], second[:-2], strict=True))
    assert not torch.equal(first[-2], second[-2])
    assert torch.equal(first[0].detach(), next(iter(before.values())))


@pytest.mark.parametrize("name", ["bent teachers", "wavy teachers"])
def test_strangers_have_correlated_inputs_with_heavy_tails(name: str):
    source = tasks._source(name, "mlp", "")
    (x, y), (again, _), (other, _) = (source.data(seed) for seed in (1, 1, 2))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    ranks = x.argsort(0).argsort(0).double()
    near = float(torch.corrcoef(ranks[:, 3:5].T)[0, 1])
    assert 0.6 < near < 0.9
    assert float(((x / x.std(0)) ** 4).mean()) > 6  # 3 of a Gaussian
    assert bool(torch.isfinite(y).all())


def test_the_page_names_what_the_runs_that_are_kept_choose():
    kept = Results(results.FOLDER / "greedy_defaults.parquet")
    best, page = numbers.chosen(kept, Settings()), page_of("greedy-defaults").read_text()
    for name in ("factor", "patience", "window"):
        assert f"{name}={getattr(best, name)}" in page
    assert f'plateau="{best.plateau}"' in page
    assert f"stable-decay:{best.share:g}" in page


# -- rules ----------------------------------------------------------------------------------------


def _signals(step: int, losses: list[float]) -> Signals:
    loss = torch.tensor(losses, dtype=torch.float64)
    return Signals(step, loss, loss, loss)


def test_epochs_give_a_rule_the_means_of_their_losses():
    config, zero = PlateauConfig(factor=0.5, patience=0), torch.zeros(2, dtype=torch.float64)
    rule, twin = Epochs(Plateau(config), 3), Plateau(config)
    scale, state = rule.start(zero, 12)
    other, inner = twin.start(zero, 3)
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(12, 2)).cumsum(0)
    for step in range(1, 13):
        scale, state = rule.update(state, _signals(step, losses[step - 1].tolist()))
        if step % 4 == 0:
            mean = losses[step - 4 : step].mean(0)
            other, inner = twin.update(inner, _signals(step // 4, mean.tolist()))
        assert torch.equal(scale, other)
    assert (scale < 1).any()


def test_what_is_fed_sees_nothing_of_its_own_runs():
    zero, greedy = torch.zeros(2, dtype=torch.float64), Greedy(GreedyConfig("count", window=1))
    falling = torch.linspace(2, 1, 20, dtype=torch.float64)[:, None].expand(-1, 2)
    own, fed = greedy, Fed(greedy, falling.flip(0))
    (scale, state), (other, inner) = own.start(zero, 20), fed.start(zero, 20)
    for step in range(1, 21):
        seen = _signals(step, falling[step - 1].tolist())
        scale, state = own.update(state, seen)
        other, inner = fed.update(inner, seen)
    assert (scale > 1).all()
    assert (other < 1).all()


# -- numbers, of runs that were made up -----------------------------------------------------------


def _run(method: str, lr: float, seed: int, loss: float, role: str) -> Result:
    kept = [1.0, loss, loss]
    return Result("cell", method, f"sgd, lr {lr:g}", seed, role, 300, kept, 0.1, "{}")


def test_a_rate_is_tuned_by_the_mean_and_what_diverged_counts_as_ten_times_the_start():
    grid = {0.01: (0.5, 0.5), 0.1: (0.3, 0.3), 1.0: (0.1, math.inf)}
    runs = [_run(OURS, lr, s, x, "tuning") for lr, pair in grid.items() for s, x in enumerate(pair)]
    assert numbers.tuned(runs) == {OURS: 1}
    assert numbers.losses(runs, "tuning")[OURS][2].tolist() == [math.log(0.1), math.log(10)]
    assert numbers.losses(runs, "judged") == {}


def test_seeds_are_added_where_a_cell_is_undecided():
    def judged(shift: float, spread: float) -> list[Result]:
        noise = [spread * (-1) ** seed for seed in range(5)]
        ours = [
            _run(OURS, 0.1, s, 0.5 * math.exp(shift + x), "judged") for s, x in enumerate(noise)
        ]
        return ours + [_run(name, 0.1, s, 0.5, "judged") for name in SEVEN for s in range(5)]

    assert numbers.undecided(judged(0.0, 0.1)) == list(SEVEN)
    for decided in (judged(-0.5, 0.1), judged(0.5, 0.1), judged(0.0, 0.001)):
        assert not numbers.undecided(decided)


def _round(settings: Settings, name: str) -> Settings:
    return next(x for x in settings.rounds() if name in plan.wanted(x, ("develop",), None))


def _results(tmp_path: Path, settings: Settings, loss: dict[str, float]) -> Results:
    made_up = Results(tmp_path / "made-up.parquet")
    for name, unit in numbers.developing(settings).items():
        runs = [
            _run(method, lr, seed, loss.get(method, 0.5), "tuning")
            for method in plan.rules(_round(settings, name), "develop", None)
            for lr in settings.grid(unit.cell.optimizer)
            for seed in settings.tuning_seeds
        ]
        made_up.add(name, runs)
    return made_up


def test_the_candidate_with_the_least_mean_is_chosen_whatever_the_rivals_do(tmp_path: Path):
    settings = replace(SMALL, factors=(0.7, 0.8, 0.9))
    wanted = settings.candidates()[3]
    made_up = _results(tmp_path, settings, {str(wanted): 0.4, "linear": 0.1, plan.OLD: 0.2})
    assert numbers.chosen(made_up, settings) == wanted
    assert numbers.scores(made_up, settings)[0].name == "linear"


def _numbers(ratios: dict[str, float]) -> Numbers:
    rng = np.random.default_rng(5)
    cells = []
    for number in range(12):
        noise = rng.normal(0, 0.01, (3, 2))
        grid = {name: np.log(ratios.get(name, 1.0)) + noise for name in (OURS, *plan.RIVALS, FALL)}
        grid = {name: x + 0.001 * rng.normal(size=(3, 1)) for name, x in grid.items()}
        grid[CONTROL] = grid[FALL]
        final = {name: x[0, 0] + 0.001 * rng.normal(size=5) for name, x in grid.items()}
        cells.append(Judged(Cell(f"set {number}", "mlp", 4, 300, "sgd"), grid, final))
    return Numbers(SMALL, [], None, cells, {}, 12, 0)


@pytest.mark.parametrize(("ours", "word"), [(0.8, "held"), (1.2, "missed")])
def test_claims_come_out_either_way(ours: float, word: str):
    from evidence.greedy_defaults.claims import claims

    found = claims(_numbers({OURS: ours}))
    assert len(found) >= 11
    other = [c for c in found if "undecided" not in c.title]
    assert {c.outcome for c in other} == {word}
