"""The study of noise in miniature: it counts right, resumes after a kill, and can say "no"."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evidence.how import How
from evidence.results import Results
from evidence.robustness import claims, plan
from evidence.robustness import page as pages
from evidence.robustness import run as running
from evidence.robustness.numbers import QUIET, Numbers, interval, load, summary
from evidence.robustness.plan import FULL, OPEN_LOOP, PRESET, Cell, Settings, Unit
from ratewise import simulate
from ratewise.errors import RunFailed, StoreError
from ratewise.pool import HERE
from ratewise.simulate import Trajectories

SMALL = Settings(
    families=("quadratic", "rosenbrock", "residual-mlp"),
    kinds=("none", "gaussian", "plateau"),
    schedules=("greedy-paper", "greedy", "cosine", "constant", "restarts", "exponential"),
    factors=(0.25, 0.5, 0.95),
    lrs=(1e-3, 1e-2),
    steps=25,
    chunk=16,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("robustness")
    page = folder / "docs" / "robustness.md"
    running.run(How(folder / "runs", page, progress=False), SMALL)
    return folder / "runs", page


def test_the_preset_is_as_large_as_promised():
    assert plan.distinct(PRESET) >= 8100
    assert len(PRESET.families) == 12
    assert len(PRESET.kinds) == 9
    assert PRESET.steps == FULL.steps == 200
    assert len(FULL.lrs) == 5
    assert FULL.lrs[-1] / FULL.lrs[0] == pytest.approx(1000)
    assert FULL.seeds == 3


def test_full_goes_on_from_the_preset():
    assert set(plan.wanted(PRESET)) < set(plan.wanted(FULL))


def test_no_trajectory_is_counted_twice():
    units = plan.units(SMALL)
    ids = [run.run_id for unit in units for run in plan.planned(SMALL, unit)]
    assert len(ids) == len(set(ids)) == plan.distinct(SMALL)
    for cell in plan.cells(PRESET, "mlp"):
        assert not (cell.place == "loss" and cell.schedule in OPEN_LOOP)
    assert not [c for c in plan.cells(PRESET, "quadratic") if c.place == "data"]


def test_every_schedule_has_equally_many_cells():
    for family in ("quadratic", "mlp"):
        cells = [c for later in (False, True) for c in plan.cells(PRESET, family, later)]
        felt = [c for c in cells if c.place in ("gradient", "data")]
        counts = {name: sum(c.schedule == name for c in felt) for name in PRESET.schedules}
        assert len(set(counts.values())) == 1


def test_what_is_added_later_leaves_the_units_that_are_there():
    before = replace(PRESET, schedules=tuple(x for x in PRESET.schedules if x not in plan.LATER))
    assert plan.wanted(before).items() < plan.wanted(PRESET).items()
    assert not any(unit.later for unit in plan.wanted(before).values())


def test_simulated_runs_are_what_the_cells_say(monkeypatch: pytest.MonkeyPatch):
    seen: list[Trajectories] = []
    run = simulate.run
    monkeypatch.setattr(simulate, "run", lambda *a, **k: seen.append(run(*a, **k)) or seen[-1])
    unit = Unit("residual-mlp", 1e-2, 1)
    cells = list(plan.cells(SMALL, unit.family))
    kept = running.made(SMALL, unit)
    assert [one.method for one in kept] == [cell.schedule for cell in cells]
    (found,) = seen
    quiet, noisy = (cells.index(Cell("greedy", *noise)) for noise in (QUIET, ("gaussian", "loss")))
    assert found.loss.shape == (len(cells), SMALL.steps)
    assert (found.seen[quiet] == found.loss[quiet]).all()
    assert (found.seen[noisy] != found.loss[noisy]).any()
    first = {x[0] for cell, x in zip(cells, found.loss, strict=True) if cell.place != "data"}
    assert len(first) == 1  # one seed, one start: paired
    running.made(SMALL, Unit("residual-mlp", 1e-2, 0))
    assert seen[1].loss[0, 0] not in first


def test_what_is_kept_of_a_run_is_what_it_was(made: tuple[Path, Path]):
    results = Results(made[0] / "robustness.parquet")
    of_each = {unit.family: (name, unit) for name, unit in plan.wanted(SMALL).items()}
    for name, unit in of_each.values():
        kept, again = results.of(name), running.made(SMALL, unit)
        assert [r._replace(seconds=0.0) for r in kept] == [r._replace(seconds=0.0) for r in again]
    assert sum(len(results.of(name)) for name in plan.wanted(SMALL)) == plan.distinct(SMALL)


def test_the_page_says_what_is_needed_and_is_the_same_again(made: tuple[Path, Path]):
    runs, page = made
    text = page.read_text()
    for needed in (
        "Made by `python -m evidence robustness`",
        "## The clean loss, paired",
        "at its own best rate",
        "## The paper's pooled figures",
        "(0.148)",
        "## The factor",
        "F below 0.5 diverges, above it does not. In bounds",
    ):
        assert needed in text
    for name in ("robustness-heat.png", "robustness-forest.png"):
        assert name in text
        assert (page.parent / name).stat().st_size > 5000
    files = {p: p.stat().st_mtime_ns for p in runs.rglob("*.parquet")}
    running.run(How(runs, page, progress=False), SMALL)
    assert page.read_text() == text
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*.parquet")} == files


def test_the_page_tells_of_runs_that_an_earlier_version_made(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, page = made
    assert "earlier version" not in page.read_text()
    monkeypatch.setattr("evidence.simulated.made_by", lambda: "other code")
    other = tmp_path / "robustness.md"
    running.run(How(folder, other, page_only=True), SMALL)
    count = len(plan.units(SMALL))
    assert f"- {count} of {count} parts were made with an earlier version" in other.read_text()


def test_a_killed_study_goes_on_and_ends_the_same(made: tuple[Path, Path], tmp_path: Path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from evidence.how import How
        from evidence.robustness import run
        from ratewise.pool import Where
        from tests_small import SMALL

        if __name__ == "__main__":
            out = Path(sys.argv[1])
            page = out.parent / "robustness.md"
            run.run(How(out, page, where=Where(jobs=2), progress=False), SMALL)
        """
    )
    (tmp_path / "go.py").write_text(script)
    small = f"from evidence.robustness.plan import Settings\n\nSMALL = {SMALL!r}\n"
    (tmp_path / "tests_small.py").write_text(small)
    kept = tmp_path / "runs" / "robustness.parquet"
    command = [sys.executable, str(tmp_path / "go.py"), str(kept.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.PIPE
    )
    wanted = plan.wanted(SMALL)
    deadline = time.monotonic() + 900
    there: list[str] = []
    while len(there) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
        if kept.exists():  # a copy: another file may take its place while it is read
            copy = Path(shutil.copyfile(kept, tmp_path / "copy.parquet"))
            there = list(filter(Results(copy).__contains__, wanted))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # its workers hold the pipe too: until all have ended
    before = Results(kept)
    there = [name for name in wanted if name in before]
    assert 2 <= len(there) < len(wanted)
    assert not (tmp_path / "robustness.md").exists()
    running.run(How(kept.parent, tmp_path / "robustness.md", progress=False), SMALL)
    after = Results(kept)
    assert all(name in after for name in wanted)
    for name in there:  # nothing is made twice: seconds differ from run to run
        assert after.of(name) == before.of(name)
    assert (tmp_path / "robustness.md").read_text() == made[1].read_text()


def test_a_missing_run_is_an_error_and_is_made_again(made: tuple[Path, Path], tmp_path: Path):
    settings = replace(SMALL, families=("quadratic",), lrs=(1e-3,), seeds=1)
    page = tmp_path / "page.md"
    with pytest.raises(StoreError, match="run the study without --page-only"):
        running.run(How(tmp_path, page, page_only=True, progress=False), settings)
    assert list(tmp_path.iterdir()) == []
    results = Results(tmp_path / "robustness.parquet")
    results.complete(plan.wanted(settings), partial(running.made, settings), where=HERE, label="")
    found = load(results, settings).measures["score"]["quadratic"]
    whole = load(Results(made[0] / "robustness.parquet"), SMALL).measures["score"]["quadratic"]
    np.testing.assert_array_equal(found[0, 0], whole[0, 0])


def test_a_failing_unit_does_not_lose_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = replace(SMALL, families=("quadratic", "rosenbrock"), lrs=(1e-3,), seeds=1)
    real = running.made

    def broken(settings: Settings, unit: Unit):
        if unit.family == "quadratic":
            raise ValueError("planted")
        return real(settings, unit)

    monkeypatch.setattr(running, "made", broken)
    with pytest.raises(RunFailed, match=r"quadratic, lr 0\.001, seed 0: ValueError: planted"):
        running.run(How(tmp_path, tmp_path / "page.md", progress=False), settings)
    results = Results(tmp_path / "robustness.parquet")
    assert [name in results for name in plan.wanted(settings)] == [False, True]


def planted(shift: dict[str, float], seed: int = 0) -> Numbers:
    """Return numbers in which schedules differ by known log-ratios, and by noise."""
    rng = np.random.default_rng(seed)
    settings = replace(PRESET, families=PRESET.families[3:])
    conditions = [QUIET, *itertools.product(PRESET.kinds[1:], PRESET.places)]
    schedules = list(PRESET.schedules)
    shape = (len(settings.lrs), settings.seeds, len(schedules), len(conditions))
    measures: dict[str, dict[str, np.ndarray]] = {}
    for name in ("score", "last", "recovery", "steps", "diverged"):
        measures[name] = {}
        for family in settings.families:
            common = rng.normal(-2, 1, (*shape[:2], 1, 1))
            x = common + rng.normal(0, 0.02, shape)
            for schedule, by in shift.items():
                x[:, :, schedules.index(schedule)] += by
            measures[name][family] = x
    return Numbers(settings, conditions, schedules, measures)


@pytest.mark.parametrize(
    ("by", "said", "words"),
    [
        (-0.2, "holds here", {"held"}),
        (0.2, "does NOT hold here", {"missed"}),
        (0.0, "is not shown here", {"undecided"}),
    ],
)
def test_the_claim_on_the_loss_follows_the_numbers(by: float, said: str, words: set[str]):
    numbers = planted({"greedy-paper": by})
    numbers = replace(numbers, settings=replace(numbers.settings, factors=()))
    lines = pages.text(numbers, "a.png", "b.png").splitlines()
    (line,) = [x for x in lines if "ends lower. For" in x and "-paper`" in x]
    assert f"**{said}**" in line
    found = claims.claims(numbers)
    assert {c.outcome for c in found if "greedy-paper ends lower" in c.title} <= words


def test_ratios_are_paired_and_families_are_clusters():
    numbers = planted({"greedy": -0.1})
    groups = numbers.log_ratios("greedy", "cosine", lambda c: c[1] == "gradient")
    assert len(groups) == len(numbers.settings.families)
    found = interval(groups)
    assert found.estimate == pytest.approx(-0.1, abs=0.01)
    assert found.high < 0
    null = interval(numbers.log_ratios("linear", "cosine", lambda c: c[1] == "gradient"))
    assert null.low < 0 < null.high
    # one family that differs wildly is one of nine: no certainty follows from it
    numbers.measures["score"]["mlp"][:, :, numbers.schedules.index("linear")] -= 3.0
    alone = interval(numbers.log_ratios("linear", "cosine", lambda c: c[1] == "gradient"))
    assert alone.high > 0
    # nine families share three data sets
    assert {alone.over: alone.n, alone.beside.over: alone.beside.n} == {
        "families": 9,
        "data sets": 3,
    }


def test_what_comes_down_further_and_sooner_is_paired():
    numbers = planted({})
    for measure, value in (("recovery", 2.0), ("steps", 10.0)):
        for family in numbers.settings.families:
            numbers.measures[measure][family][:] = value
    row = numbers.schedules.index("greedy-paper")
    for family in numbers.settings.families:
        numbers.measures["recovery"][family][:, :, row] = 4.0
        numbers.measures["steps"][family][0, :, row] = np.inf  # at one rate of three
    numbers = replace(numbers, settings=replace(numbers.settings, factors=()))
    found = {claim.title: claim.outcome for claim in claims.claims(numbers)}
    assert found["it recovers further: how far cosine does, over how far it does"] == "held"
    assert found["it recovers sooner: its steps over those of cosine"] == "undecided"


def test_the_best_rate_is_chosen_on_other_seeds():
    numbers = planted({})
    row = numbers.schedules.index("greedy")
    for family in numbers.settings.families:
        score = numbers.measures["score"][family]
        score[:] = 0.0
        score[0, 0, row] = -1.0  # the rate that is best on seed 0 is bad on seed 1
        score[1, 1, row] = -1.0
    groups = numbers.tuned_log_ratios("greedy", "cosine", lambda c: c == QUIET)
    np.testing.assert_array_equal(
        np.concatenate(list(groups.values())), 0.0
    )  # chosen on itself it were -1


def test_an_open_loop_run_stands_for_all_noise_on_the_seen_loss(made: tuple[Path, Path]):
    numbers = load(Results(made[0] / "robustness.parquet"), SMALL)
    cosine = numbers.of("score", "residual-mlp", "cosine")
    greedy = numbers.of("score", "residual-mlp", "greedy")
    seen = [i for i, c in enumerate(numbers.conditions) if c[1] == "loss"]
    felt = [i for i, c in enumerate(numbers.conditions) if c[1] == "gradient"]
    assert (cosine[..., seen] == cosine[..., :1]).all()
    assert (cosine[..., felt] != cosine[..., :1]).any()
    assert (greedy[..., seen] != greedy[..., :1]).any()
    assert np.isnan(numbers.of("score", "quadratic", "greedy")[..., -1]).all()  # it has no data


def trajectory(losses: list[float], final: float) -> Trajectories:
    """Return a run that begins at a loss of 2."""
    row, steps = np.array([losses]), np.arange(1, len(losses) + 1)
    blown = (~np.isfinite(losses)).nonzero()[0]
    ends = (np.array([x]) for x in (2.0, final, np.nan, blown[0] + 1 if len(blown) else 0))
    return Trajectories(steps, row, row, row, row, row, *ends, seeds=(0,), chunk=1, seconds=0.0)


def test_what_is_kept_are_the_marks_of_the_plan():
    kept = running.marks(trajectory([1.0, 8.0, 4.0, 1.0] + [1.0] * 10, 0.02), 0)
    assert kept == [2.0, 0.02, 1.0, 8.0, 2.0]
    assert running.marks(trajectory([1.0, np.inf], 0.02), 0) == [2.0, *[np.inf] * 4]


def test_a_diverged_run_counts_as_ten_times_the_start():
    bad = summary(running.marks(trajectory([1.0, np.inf], np.nan), 0))
    good = summary(running.marks(trajectory([1.0] * 20, 2e-12), 0))
    assert np.exp(bad["score"]) == pytest.approx(10)
    assert bad["recovery"] == 0
    assert np.exp(good["score"]) == pytest.approx(1e-8)  # the floor


def test_the_pictures_are_drawn_from_numbers_alone(tmp_path: Path):
    numbers = planted({"greedy": -0.1})
    assert "## Family by noise" in pages.text(
        replace(numbers, settings=replace(numbers.settings, factors=())), "a.png", "b.png"
    )
