"""The study of what needs no rate, in miniature: it goes on, tunes apart, its claims can fail."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence import peers
from evidence.cells import Cell
from evidence.how import How
from evidence.learned import numbers, plan, rules, runs, unseen
from evidence.learned import run as running
from evidence.learned.claims import claims
from evidence.learned.numbers import Judged, Numbers
from evidence.learned.plan import Settings
from evidence.learned.rules import (
    FREE,
    KINDS,
    LINEAR,
    METHODS,
    ONLINE,
    OTHER,
    OURS,
    POLICY,
    RANDOM,
    Unit,
)
from evidence.learned.runs import BOTH, MEASURES, TUNING
from evidence.results import Result, Results
from ratewise.data import locate

SMALL = Settings(
    units=(
        Unit(KINDS[0], Cell("bent teachers", "mlp", 4, 24, "adamw")),
        Unit(KINDS[1], Cell("wavy teachers", "mlp", 64, 24, "sgd")),
    ),
    rates=2,
    free_rates=2,
    tuning_seeds=(0,),
    seeds=(5, 6),
    peers=peers.installed(),
)


def test_a_miniature_goes_on_where_it_stopped_and_a_half_done_page_says_so(tmp_path: Path):
    page, path = tmp_path / "page.md", tmp_path / "learned.parquet"
    how = How(tmp_path, page, progress=False)
    running.run(replace(how, page_only=True), SMALL)
    assert "Nothing is judged yet" in page.read_text()
    assert "Earlier judgements" in page.read_text()
    running.run(how, replace(SMALL, units=SMALL.units[:1]))
    before = Results(path)
    running.run(replace(how, page_only=True), SMALL)
    assert "Only 1 of 2 cells are judged yet" in " ".join(page.read_text().split())
    running.run(how, SMALL)
    after, text = Results(path), page.read_text()
    assert all(after.of(name) == before.of(name) for name in before._units)  # not made again
    assert "Only" not in text
    assert f"{sum(map(len, after._units.values())):,} trainings" in text
    assert "nan" not in text
    for needed in (OURS, POLICY, OTHER, "random online", "bent teachers mlp", "Against Prodigy"):
        assert needed in text, needed
    by_unit = dict(zip(SMALL.units, after._units.values(), strict=True))
    for unit, found in by_unit.items():
        row = plan.row(SMALL, unit)
        assert row.trainings >= len({(x.method, x.setting, x.seed) for x in found})
        methods = {x.method for x in found}
        assert (ONLINE in methods) == (unit.cell.optimizer == "adamw")
        assert (FREE in methods) == plan.beside(SMALL, unit)
        for name in (LINEAR, rules.COSINE):  # one rate for each loss, or the same
            roles = Counter(x.role for x in found if x.method == name)
            assert roles == {TUNING: 2, MEASURES[0]: 2, MEASURES[1]: 2}
        assert {x.role for x in found if x.method == OURS} == {BOTH}
        assert all(len(x.losses) == 4 for x in found)
    running.run(how, SMALL)
    assert page.read_text() == text


def test_every_length_and_kind_is_judged_and_nothing_that_developed():
    units = Settings().units
    cells = [unit.cell for unit in units]
    assert len(set(cells)) == len(cells)
    assert {cell.data for cell in cells} == {
        "mnist1d", "bent teachers", "wavy teachers", "cifar", "shakespeare", "kjv", "polarity",
        *unseen.SETS,
    }  # fmt: skip
    assert {cell.batch for cell in cells} >= {4, 16, 128}
    assert sum(cell.steps == 20_000 for cell in cells) == 2
    for kind in KINDS[:3]:
        mine = [unit.cell for unit in units if unit.kind == kind]
        assert {cell.steps for cell in mine} >= {300, 1500, 5000}
        assert {cell.optimizer for cell in mine} == {"sgd", "adamw"}
        assert {cell.further for cell in mine} == {kind == KINDS[2]}
    assert len(Settings().grid(Cell("cifar", "mlp", 4, 20_000, "sgd"))) == 3
    assert len(Settings().grid(Cell("cifar", "mlp", 4, 5000, "sgd"))) == 5
    total = sum(plan.row(replace(Settings(), peers=True), u).seconds for u in units[:3])
    assert 0 < total < 3600


def test_fresh_teachers_have_a_row_for_each_step_and_other_data_are_what_they_are():
    unit = Unit(KINDS[0], Cell("bent teachers", "mlp", 4, 3000, "sgd"))
    assert rules.passes(unit) == pytest.approx(1.0)
    assert rules.passes(Unit(KINDS[1], unit.cell)) > 3
    choosing, judging = (rules.task(unit, judging=x).data_for(3)[0] for x in (False, True))
    apart = rules.task(unit, judging=True).held_out
    assert (choosing[:-apart] == judging[:-apart]).all()
    assert not (choosing[-apart:] == judging[-apart:]).all()


def test_what_was_never_looked_at_before_is_drawn_by_seed_and_split_like_the_rest():
    unit = Unit(KINDS[0], Cell("friedman", "mlp", 4, 3000, "sgd"))
    assert rules.passes(unit) == pytest.approx(1.0)
    judging = rules.task(unit, judging=True)
    (x, y), (other, _) = judging.data_for(3), judging.data_for(4)
    assert not (x[:5] == other[:5]).all()
    assert (judging.data_for(3)[0] == x).all()
    assert float(y.mean().abs()) < 0.1
    assert abs(float(y.std()) - 1) < 0.1
    choosing = rules.task(unit, judging=False)
    apart = judging.held_out
    assert (choosing.data_for(3)[0][:-apart] == x[:-apart]).all()
    assert not (choosing.data_for(3)[0][-apart:] == x[-apart:]).all()
    text = Unit(KINDS[2], Cell("help texts", "window", 16, 300, "adamw", True))
    assert rules.task(text, judging=True).held_out > 100


@pytest.mark.skipif(locate.folder(None) is None, reason="needs data sets")
def test_data_sets_are_seen_as_often_as_their_kind_says():
    for unit in Settings().units:
        if unit.kind == KINDS[0] and unit.cell.steps == 1500:
            assert rules.passes(unit) <= 1.5, unit
        if unit.kind == KINDS[1] and unit.cell.steps == 1500:
            assert rules.passes(unit) > 2, unit


def test_the_ratio_of_the_control_is_another_and_ours_knows_passes():
    unit = Unit(KINDS[1], Cell("wavy teachers", "mlp", 64, 2000, "sgd"))
    found = {name: x.config.ratio for name, x in rules.rules(unit).items() if hasattr(x, "config")}
    assert found[OTHER] < found[OURS] / 2
    assert found[OURS] != found[rules.UNKNOWN]


def test_steps_to_a_loss_are_counted_on_smoothed_ones():
    assert runs.share([4.0, 3.0, 2.0, 1.0], 2.0) == 0.75
    assert runs.share([4.0, 3.0], 2.0) == math.inf
    assert runs.share([math.nan] * 40, 2.0) == math.inf
    noisy = [1.0 if step == 3 else 2.0 - step / 100 for step in range(100)]
    assert runs.share(noisy, 1.5) > 0.5, "one lucky batch is no arrival"


def test_a_rate_is_tuned_for_each_loss_on_tuning_runs_alone():
    def run(setting: float, role: str, training: float, held_out: float) -> Result:
        losses = [1.0, training, held_out, math.nan]
        return Result("t", LINEAR, f"sgd, lr {setting:g}", 0, role, 1, losses, 0.0, "{}")

    found = [run(0.1, TUNING, 0.2, 0.5), run(1.0, TUNING, 0.1, 0.9), run(3.0, BOTH, 0.0, 0.0)]
    assert [runs.best(found, m)[LINEAR] for m in (0, 1)] == [1.0, 0.1]


def planted(ours: float, *, failed: int = 0, other: float = 1.5, chance: float = 1.1) -> Numbers:
    """Return numbers in which we end at `ours` of tuned linear's loss, and of everything else."""
    rng = np.random.default_rng(0)
    cells = []
    for unit in Settings().units:
        noise = {name: rng.normal(0, 0.001, (2, 5)) for name in METHODS}
        mine = {OURS: ours, POLICY: ours, ONLINE: ours, OTHER: other * ours, RANDOM: chance * ours}
        losses = {name: math.log(mine.get(name, 1.0)) + x for name, x in noise.items()}
        shares = {name: np.full(5, ours if name in mine else 1.0) for name in METHODS}
        fails = dict.fromkeys(METHODS, 0) | {OURS: failed}
        cells.append(Judged(unit, losses, shares, fails, True, False, 100))
    return Numbers(Settings(), cells)


def outcomes(found: Numbers, of: str) -> dict[str, str]:
    return {claim.title: claim.outcome for claim in claims(found) if claim.of == of}


def test_claims_hold_of_what_is_better_and_fail_of_what_is_worse():
    good, bad = outcomes(planted(0.85), OURS), outcomes(planted(1.3, failed=1), OURS)
    assert "missed" not in good.values()
    assert len(good) > 15
    controls = {title for title in good if title.startswith("control")}
    for title, word in bad.items():
        expected = {"held"} if title in controls else {"missed", "not judged"}
        assert word in expected, title
    assert len(controls) == 2
    none = outcomes(planted(0.85, other=1.0, chance=0.9), OURS)
    assert all(none[title] != "held" for title in controls), "a control can fail"


def test_runs_that_fail_count_where_a_rate_survives_alone():
    def lost(survives: bool) -> str:
        found = planted(0.9, failed=2)
        cells = [cell._replace(survives=survives) for cell in found.cells]
        return outcomes(found._replace(cells=cells), OURS)["runs that failed where a rate survives"]

    assert (lost(True), lost(False)) == ("missed", "held")


def test_what_one_loss_never_reaches_counts_as_twice_its_steps():
    found = planted(1.0)
    cell = found.cells[0]
    never = cell._replace(shares={**cell.shares, OURS: np.full(5, math.inf)})
    assert numbers.steps([never], OURS).ratio()[0] == pytest.approx(2.0)
