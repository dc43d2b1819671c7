"""The study of intervals in miniature: they err as seldom as they say, and the old ones do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence.coverage import draws, plan
from evidence.coverage import page as pages
from evidence.coverage import run as running
from evidence.coverage.claims import claims
from evidence.coverage.numbers import Found
from evidence.coverage.plan import (
    ALLOWED,
    BOOTSTRAP,
    CONTROLS,
    DESIGNS,
    USUAL,
    WORLDS,
    Settings,
    Unit,
)
from evidence.how import How
from evidence.results import Results
from ratewise.compare import statistics

#: Each kind of interval once, and no more columns than there must be.
FEW = tuple(
    next(design for design in DESIGNS if design.name.startswith(start))
    for start in ("cell of 8", "ratio over 4 tasks", "ratio over 12 families", "median over 86")
)
SMALL = Settings(designs=FEW, worlds=(USUAL[0], USUAL[-1]), repetitions=2000, control=400)


def chance(share: float, count: int) -> float:
    """Return how far a share of that many may lie off: three standard deviations."""
    return float(3 * np.sqrt(share * (1 - share) / count))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coverage")
    running.run(How(folder, folder / "coverage.md", progress=False), SMALL)
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> list[Found]:
    from evidence.coverage.numbers import load

    return load(Results(made / "coverage.parquet"), SMALL)


def test_every_interval_errs_no_more_than_is_allowed(found: list[Found]):
    own = [one for one in found if one.unit.printed]
    assert len(own) == len(FEW) * 2
    for one in own:
        assert one.missed <= ALLOWED + chance(ALLOWED, SMALL.repetitions), str(one.unit)


def test_negative_control_the_percentile_bootstrap_fails_the_limit(found: list[Found]):
    controls = [one for one in found if one.unit.way == BOOTSTRAP]
    assert len(controls) == len(CONTROLS) == 3
    for one in controls:
        assert one.missed > ALLOWED, str(one.unit)
    assert max(one.missed for one in controls) > ALLOWED + chance(ALLOWED, SMALL.control)


def test_the_page_begins_with_what_was_missed(made: Path):
    text = (made / "coverage.md").read_text()
    assert text.index("## Misses") < text.index("## Errors")
    assert "control: the percentile bootstrap errs more" in text
    unit = Unit(FEW[0], USUAL[0])
    planted = [Found(unit, 0.2, 0.1, 0.2), Found(Unit(FEW[1], USUAL[0]), 0.01, 0.01, 0.01)]
    assert [claim.outcome for claim in claims(planted)] == ["missed", "held"]
    words = pages.text(planted, replace(SMALL, worlds=USUAL[:1]))
    assert words.index(f"Missed: {FEW[0].name}") < words.index("| claim ")
    misses = words[words.index("## Misses") : words.index("## Errors")]
    assert "20.0%" in misses
    assert "1.0%" not in misses
    cautious = words[words.index("## Wider") : words.index("## What was printed")]
    assert "1.0%" in cautious
    assert "20.0%" not in cautious


@pytest.mark.parametrize("design", [d for d in DESIGNS if sum(d.sets) > 1], ids=lambda d: d.name)
def test_what_is_simulated_is_what_the_package_prints(design: plan.Design):
    """The intervals of whole arrays against those of the package, one by one."""
    rng = np.random.default_rng(0)
    x = draws.draw(design, USUAL[-1], 4, rng).ratios
    levels = draws._levels(Unit(design, USUAL[-1]), [x])
    sets = [str(i) for i, count in enumerate(design.sets) for _ in range(count)]
    pooled = statistics.median_interval if design.kind == "median" else statistics.mean_interval
    for i in range(len(x)):
        groups = list(x[i])
        if design.kind == "share":
            groups = [np.atleast_1d((group < 0).mean() - 0.5) for group in groups]
        found = pooled(groups, sets)
        each = [tuple(float(side[i]) for side in level.bounds[:3]) for level in levels]
        wide = max(each, key=lambda one: one[2] - one[1])
        assert found[:3] == pytest.approx(wide)


def test_a_cell_is_what_the_package_prints():
    x = draws.draw(DESIGNS[2], USUAL[0], 4, np.random.default_rng(0)).ratios
    (level,) = draws._levels(Unit(DESIGNS[2], USUAL[0]), [x])
    for i in range(len(x)):
        found = statistics.cell_interval(x[i, 0, :, 0])
        assert found.low == pytest.approx(level.bounds.low[i])


def test_diverged_runs_are_capped_as_the_package_does_it():
    world = plan.World("", diverged=(0.1, 0.1))
    x = draws.draw(FEW[0], world, 2000, np.random.default_rng(0)).ratios.ravel()
    most = statistics.log_ratio(np.inf, plan.LEARNED, 1.0)
    assert np.isclose(abs(x), most, atol=0.5).mean() == pytest.approx(0.18, abs=0.02)
    assert abs(x).max() < most + 0.5
    assert 0.002 < (x == 0).mean() < 0.02  # both diverged


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_what_scatters_has_mean_0_and_variance_1(world: plan.World):
    x = draws._scatter((400_000,), world, np.random.default_rng(0))
    assert x.mean() == pytest.approx(0.0, abs=0.01)
    if world.tails is None:  # with 3 degrees of freedom a sample's variance says little
        assert x.var() == pytest.approx(1.0, abs=0.02)


def test_each_kind_that_is_printed_is_simulated():
    assert {design.kind for design in DESIGNS} == {"cell", "mean", "median", "share"}
    assert {design.seeds for design in DESIGNS if design.name.startswith("cell")} >= {2, 8}
    assert Settings().repetitions >= 10_000


def test_the_digest_of_a_unit_follows_its_size_and_seed():
    assert plan.units(SMALL).keys() & plan.units(Settings(seed=1)).keys() == set()
