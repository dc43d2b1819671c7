"""The study of past runs in miniature, on curves that a law made; and claims that can miss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.curves.made import curve

from evidence.cells import Cell
from evidence.how import How
from evidence.past_runs import advised, advised_numbers, cost, importing, numbers, plan, tried, ways
from evidence.past_runs import run as running
from evidence.past_runs.advised import ADVISOR, LINEAR, LOSSES, METHODS, Advice
from evidence.past_runs.claims import claims
from evidence.past_runs.numbers import Numbers
from evidence.past_runs.plan import FITTED, Run, Settings
from evidence.past_runs.tried import Trials
from evidence.results import Results
from ratewise.curves import Curve, Series
from ratewise.errors import MissingData, StoreError

SMALL = Settings(
    draws=3, chunk=2, points=12, laws=("functional",), sets=("mpl-25m",), few=(2, 3), sets_of_few=2
)
ADVICE = Advice(
    cells=(
        Cell("digits", "mlp", 16, 40, "sgd"),
        Cell("breast-cancer", "mlp", 16, 40, "adamw", True),
    ),
    past=(Cell("diabetes", "mlp", 16, 40, "sgd"),),
    repeats=2,
    grid=3,
)
TRIALS = Trials((Cell("wine", "mlp", 16, 40, "adamw"),), replace(ADVICE, repeats=1))
LENGTHS = {1000: 15_000, 1500: 25_000, 2500: 50_000}


def held_out(one: Curve) -> Curve:
    return replace(one, held_out_loss=one.train_loss, train_loss=Series.empty())


def made_runs() -> tuple[Run, ...]:
    """Three lengths of two shapes at two peaks, a shape of one length, a run that diverged."""
    found = []
    for shape in ("cosine", "wsd 0.2"):
        for peak in (5e-4, 1e-3):
            for steps, called in LENGTHS.items():
                one = held_out(curve(shape, peak, steps, noise=2e-4, seed=steps))
                found.append(Run(one, called, (shape, "", "", "", f"{peak:g}")))
    once = held_out(curve("wsd 0.6", 1e-3, 2500))
    found.append(Run(once, 50_000, ("wsd 0.6", "", "", "", "0.001")))
    wild = held_out(curve("cosine", 5e-3, 2500))
    wild = replace(wild, held_out_loss=Series.of(wild.held_out_loss.step,
                                                 0 * wild.held_out_loss.value + 7.5))  # fmt: skip
    return (*found, Run(replace(wild, name="wild"), 50_000, ("cosine", "", "", "", "0.005")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("past-runs")
    shapes = {name: replace(curve("cosine", noise=2e-4), name=name) for name in FITTED}
    shapes["constant_24000"] = curve("constant", noise=2e-4)
    shapes["wsd"] = curve("wsd 0.2", noise=2e-4)
    known = made_runs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "folder", lambda data: folder)
        patch.setattr(plan, "shapes", lambda name, data: shapes)
        patch.setattr(plan, "runs", lambda data: known)
        running.run(How(folder, folder / "p.md", progress=False), SMALL, ADVICE, 2, TRIALS, {})
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> Numbers:
    return numbers.load(Results(made / "past_runs.parquet"), SMALL)


def test_the_page_is_written_with_its_figure_and_begins_with_what_was_missed(made: Path):
    text = (made / "p.md").read_text()
    assert (made / "p.png").stat().st_size > 10_000
    opening = text[: text.index("Made by")]
    assert "Missed: " in opening or "None was missed" in opening
    assert "wild" in text


def test_on_curves_that_the_law_made_forecasts_are_right(found: Numbers):
    (lengths,) = found.lengths
    assert np.abs(lengths.error).max() < 0.01
    assert [name for name, _ in lengths.refused] == ["wild"]
    assert (lengths.twice.sum(), len(lengths.names)) == (4, 5)
    assert np.median(found.begun.error) < 0.01 < np.median(found.begun.match)
    assert found.begun.alone_refused
    assert found.suggestions.ours.max() < 0.02
    assert [(one.runs, one.draws) for one in found.few] == [(2, 2), (3, 2)]
    assert min(one.covered for one in found.few) > 0.85
    (shape,) = found.shapes
    assert shape.mean < 0.005


def test_negative_control_worse_numbers_miss_the_claims(found: Numbers):
    def missed(numbers: Numbers) -> set[str]:
        return {claim.title for claim in claims(numbers) if claim.outcome == "missed"}

    usual = missed(found)
    (lengths,) = found.lengths
    off = lengths._replace(error=lengths.error + 0.02, covered=0 * lengths.covered)
    assert len(missed(found._replace(lengths=[off])) - usual) >= 3
    drawn = found.suggestions
    worse = drawn._replace(ours=drawn.ours + 0.1)
    assert len(missed(found._replace(suggestions=worse)) - usual) >= 3
    narrow = [one._replace(covered=0.8) for one in found.few]
    assert len(missed(found._replace(few=narrow)) - usual) == 1
    begun = found.begun._replace(error=found.begun.match + 0.1, alone_refused=False)
    assert len(missed(found._replace(begun=begun)) - usual) == 3


def test_the_page_alone_needs_the_results(made: Path, tmp_path: Path):
    how = How(made, tmp_path / "again.md", page_only=True, progress=False)
    running.run(how, SMALL, ADVICE, 2, TRIALS, {})
    first, again = (made / "p.md").read_text(), (tmp_path / "again.md").read_text()
    assert again.replace("again.png", "p.png") == first
    with pytest.raises(StoreError, match="lacks runs"):
        running.run(replace(how, out=tmp_path), SMALL)


def test_without_the_curves_it_says_so(tmp_path: Path):
    with pytest.raises(MissingData, match="the set of published loss curves is missing"):
        plan.folder(str(tmp_path))


# -- tuning with a few runs ---------------------------------------------------------------------


def test_all_ways_of_tuning_are_judged_on_the_same_seeds_and_rows(made: Path):
    results = Results(made / "past_runs.parquet")
    for name, unit in advised.units(ADVICE, "advised").items():
        rows = results.of(name)
        assert len(rows) == len(METHODS) * len(LOSSES) * ADVICE.repeats
        assert {row.seed for row in rows} == {0, 1}
        starts = {row.seed: row.losses[0] for row in rows}
        assert all(row.losses[0] == starts[row.seed] for row in rows), "paired"
        spent = {row.method: int(row.setting.split()[1]) for row in rows}
        assert spent[LINEAR] == 3
        assert spent["the centre"] == 0
        assert spent[ADVISOR] <= 4
        assert spent["with past tasks, 2 runs"] <= 2
        assert all(row.steps == unit.cell.steps for row in rows)
    text = (made / "p.md").read_text()
    assert "2 of 2 planned cells are judged" in text
    assert "worst cell" in text


def test_cells_that_are_missing_are_counted_and_none_is_no_error(made: Path):
    results = Results(made / "past_runs.parquet")
    more = replace(ADVICE, cells=(*ADVICE.cells, Cell("wine", "mlp", 16, 40, "sgd")))
    found = advised_numbers.load(results, more)
    assert (len(found.cells), found.planned) == (2, 3)
    none = advised_numbers.load(results, replace(ADVICE, cells=more.cells[2:]))
    assert advised_numbers.claims(none) == []


def test_negative_control_claims_on_a_few_runs_can_miss_and_hold(made: Path):
    found = advised_numbers.load(Results(made / "past_runs.parquet"), ADVICE)

    def outcomes(by: float) -> set[str]:
        cells = [
            one._replace(
                logs={who: np.full(2, by * (who[0] != LINEAR) + 1e-6 * i) for who in one.logs}
            )
            for i, one in enumerate(found.cells)
        ]
        said = advised_numbers.claims(found._replace(cells=cells))
        return {claim.outcome for claim in said if LINEAR in claim.title}

    assert outcomes(-0.1) == {"held"}
    assert outcomes(0.3) == {"missed"}


def test_an_import_is_held_to_its_seconds_and_megabytes():
    cost = importing.Cost(1000, 40.0, 600.0)
    assert {claim.outcome for claim in importing.claims(cost)} == {"held"}
    slow = [claim.outcome for claim in importing.claims(cost._replace(seconds=61.0))]
    assert slow == ["missed", "held"]
    (run,) = importing.made(importing.Unit(2, 50))
    assert len(run.losses) == 2
    assert min(run.losses) > 0


def test_optuna_s_schedule_holds_and_falls():
    shape = advised.Falling(0.25, 0.5)
    assert [shape.at(step, 8) for step in (0, 2, 5, 8)] == [1.0, 1.0, 0.75, 0.5]


def test_a_fit_s_cost_is_timed_and_claims_on_it_can_miss(tmp_path: Path):
    rows = cost.made(None, (40, 80, 160), cost.Unit("sums", 160))
    assert [row.method for row in rows] == ["functional", "multi-power", cost.LITERAL]
    assert all(len(row.losses) == 3 and min(row.losses) >= 0 for row in rows)
    made = cost.Cost(150, 5.0, 500.0, {"functional": 1.0, cost.LITERAL: 2.0})
    assert {claim.outcome for claim in cost.claims(made)} == {"held"}
    slow = made._replace(seconds=31.0, megabytes=1001.0, exponents={"functional": 1.9})
    assert {claim.outcome for claim in cost.claims(slow)} == {"missed"}
    assert cost.load(Results(tmp_path / "none.parquet"), cost.units()) is None


# -- other ways -----------------------------------------------------------------------------------


def test_other_ways_are_on_the_page_and_none_of_their_cells_judges(made: Path):
    text = (made / "p.md").read_text()
    assert "## Other ways to go on from pilots and from past tasks" in text
    assert all(f"| {way} " in text for way in (*tried.WAYS, *ways.CHOICES, ways.BOTH))
    judged, developed = ({cell.data for cell in cells} for cells in (advised.CELLS, tried.CELLS))
    assert not judged & developed
    rows = Results(made / "past_runs.parquet").of(next(iter(tried.units(TRIALS))))
    starts = {row.losses[0] for row in rows}
    assert len(starts) == 1
    assert {row.method for row in rows} == set(tried.METHODS)


def test_the_authors_constants_are_computed_as_the_law_is_printed():
    rates = np.r_[np.linspace(0, 3e-4, 20)[1:], np.full(20, 3e-4), np.full(20, 3e-5)]
    l0, a, alpha, b, c, beta, gamma = ways.PUBLISHED["mpl-25m"]
    loss, total = l0 + a * rates.sum() ** -alpha, np.concatenate([[0], np.cumsum(rates)])
    for k in range(1, len(rates) + 1):
        before = rates[k - 2] if k > 1 else 0.0
        since = total[-1] - total[k - 1]
        fell = 1 - (1 + c * rates[k - 1] ** -gamma * since) ** -beta
        loss -= b * (before - rates[k - 1]) * fell
    found = ways.published("mpl-25m", rates, [len(rates)])
    assert found == pytest.approx([loss], rel=1e-9)


def test_the_authors_worst_point_is_a_claim_where_it_is_known(found: Numbers):
    (shape,) = found.shapes

    def outcomes(worst: float) -> list[str]:
        authors = {shape.name: (0.0, 0.0, worst)}
        said = claims(found, authors)
        return [one.outcome for one in said if "at most the authors'" in one.title]

    assert outcomes(shape.worst + 1e-4) == ["held"]
    assert outcomes(shape.worst - 1e-4) == ["missed"]
    assert not [one for one in claims(found) if "authors" in one.title]
