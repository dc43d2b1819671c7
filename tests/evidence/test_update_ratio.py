"""The study of the ratio in miniature: it goes on, fits what is planted, and never peeks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evidence.how import How
from evidence.results import Results
from evidence.update_ratio import numbers as numbers_of
from evidence.update_ratio import pairs, plan
from evidence.update_ratio import run as running
from evidence.update_ratio.claims import claims, fit
from evidence.update_ratio.numbers import (
    BATCH_POWERS,
    OURS,
    WITH,
    Numbers,
    criterion,
    law_of,
    left_out,
    numbers_from,
    paid,
    scores,
)
from evidence.update_ratio.plan import TASKS, Settings, Unit
from ratewise import simulate
from ratewise.errors import StoreError
from ratewise.learning.tasks import JUDGING, TRAINING

SMALL = Settings(
    tasks=("mlp", "wine"),
    longest=100,
    ratios=(0.01, 0.02, 0.08),
    rates=2,
    seeds=(1,),
    forms=False,
)
#: Finer than the study's, so that reading between them hides nothing.
RATIOS = tuple(np.geomspace(0.00125, 0.08, 61).tolist())
STEPS = np.array([100, 400, 2000, 8000] * 3)
PASSES = np.repeat([1.0, 8.0, 64.0], 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("update-ratio")
    page = folder / "docs" / "update-ratio.md"
    running.run(How(folder / "runs", page, progress=False), SMALL)
    return folder / "runs", page


def kept(made: tuple[Path, Path]) -> Results:
    return Results(made[0] / "update_ratio.parquet")


def test_the_page_says_what_is_needed(made: tuple[Path, Path]):
    text = made[1].read_text()
    words = " ".join(text.split())
    for needed in (
        "Made by `python -m evidence update-ratio --data DATA`",
        "2 tasks, optimizers adamw and sgd",
        "## Over tuned linear",
        "## Online corrections",
        "## Regret",
        "Chosen without a task",
        "(update-ratio.png)",
    ):
        assert needed in words
    assert "It is not at its end" not in words
    assert "nan" not in text
    assert (made[1].parent / "update-ratio.png").stat().st_size > 5000


def test_nothing_is_simulated_twice(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: Any, **__: Any) -> None:
        raise RuntimeError("simulated again")

    before = made[1].read_text()
    monkeypatch.setattr(simulate, "run", forbidden)
    running.run(How(made[0], made[1], progress=False), SMALL)
    assert made[1].read_text() == before


def test_what_is_there_makes_a_page_and_nothing_makes_an_error(
    made: tuple[Path, Path], tmp_path: Path
):
    with pytest.raises(StoreError, match="without --page-only"):
        numbers_of.load(Results(tmp_path / "empty.parquet"), SMALL)
    some = Results(tmp_path / "update_ratio.parquet")
    for name, unit in plan.wanted(SMALL).items():
        if unit.task == "wine" or unit.wanted == 1:
            some.add(name, kept(made).of(name))
    page = tmp_path / "page.md"
    running.run(How(tmp_path, page, page_only=True, progress=False), SMALL)
    assert "It is not at its end: 4 of 6 cells" in page.read_text()


def test_stored_runs_are_where_the_page_looks_for_them(made: tuple[Path, Path]):
    numbers = numbers_of.load(kept(made), SMALL)
    unit = Unit("mlp", "adamw", 100, 8)
    runs = kept(made).of(plan.digest(plan.planned(SMALL, unit)))
    logs = {
        (run.method, run.setting): np.log(np.clip(run.losses[2] / run.losses[0], 0.01, 10))
        for run in runs
    }
    tuned = min(x for (name, _), x in logs.items() if name == "linear")
    ours = [f"adamw, lr 0.01, ratio {x:g}".replace(", ratio 0.01", "") for x in SMALL.ratios]
    wanted = [logs["update-ratio", name] - tuned for name in ours]
    at = numbers.units.index(unit)
    np.testing.assert_allclose(numbers.ours[1, at], wanted, atol=1e-6)
    before = next(x for (name, _), x in logs.items() if name == "before")
    assert numbers.named["before"][1, at] == pytest.approx(before - tuned)
    assert numbers.passes[at] == pytest.approx(8, abs=0.1)


def judged(tasks: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the tasks whose data may not be trained on; what names no data counts as such."""
    used = {name: options.get("data", "?") for name, (_, options) in tasks.items()}
    return [name for name, data in used.items() if data in JUDGING or data not in TRAINING]


def test_no_task_uses_data_that_judge():
    assert judged(TASKS) == []
    assert judged({name: pair[:2] for name, pair in pairs.PAIRS.items()}) == []
    assert judged({**TASKS, "digits": ("mlp", {"data": "digits"})}) == ["digits"]
    assert judged({"unnamed": ("gru", {})}) == ["unnamed"]


def planted(law: Any) -> np.ndarray:
    """Return regrets that are least where the ratio is the law's, [2, 12, ratio]."""
    sizes = zip(STEPS.tolist(), PASSES.tolist(), strict=True)
    target = np.log([law_of(law, RATIOS).ratio(*size) for size in sizes])
    one = 0.2 * (np.log(RATIOS) - target[:, None]) ** 2
    return np.minimum(np.stack([one, 0.5 * one]), 1.0)


@pytest.mark.parametrize("law", [OURS, (0.017, 0.2, 4.0, 0.3), (0.02, 0.4, 1.0, 0.2)])
def test_the_fit_finds_the_law_that_was_planted(law: Any):
    found = criterion(scores(WITH, planted(law), STEPS, PASSES, RATIOS))
    assert WITH[int(found.argmin())] == law
    assert found.min() == pytest.approx(0, abs=1e-3)


def test_what_is_learned_by_heart_counts_half():
    regret, often = planted(OURS), PASSES > 1.5
    found = paid(regret, PASSES)
    np.testing.assert_array_equal(found[0, often], 0.5 * regret[0, often])
    np.testing.assert_array_equal(found[0, ~often], regret[0, ~often])
    np.testing.assert_array_equal(found[1], regret[1])


def test_a_power_of_the_batch_that_was_planted_is_found():
    batches = np.array([8.0, 128.0] * 6)
    x = np.log(RATIOS)
    sizes = zip(STEPS.tolist(), PASSES.tolist(), strict=True)
    target = np.log([law_of(OURS, RATIOS).ratio(*size) for size in sizes])
    one = 0.2 * (x - np.clip(target + 0.3 * np.log(batches / 32), x[0], x[-1])[:, None]) ** 2
    part = np.stack([one, one]), STEPS, PASSES, RATIOS
    least = {
        power: criterion(scores(WITH, *part, (batches / 32) ** power)).min()
        for power in (0.0, *BATCH_POWERS)
    }
    assert min(least, key=lambda power: least[power]) == 0.3
    assert least[0.0] > least[0.3] + 0.01


def test_a_task_that_is_left_out_does_not_choose():
    tasks = np.array(["a", "b", "c"])[np.arange(12) % 3]
    same = scores(WITH, planted(OURS), STEPS, PASSES, RATIOS)
    regret, chosen = left_out(same, tasks)
    assert regret == pytest.approx(criterion(same).min(), abs=1e-3)
    odd = same.copy()
    other = scores(WITH, 20 * planted((0.01, 0.6, 1.0, 1.0)), STEPS, PASSES, RATIOS)
    odd[..., tasks == "a"] = other[..., tasks == "a"]
    regret, chosen = left_out(odd, tasks)
    assert WITH[chosen[0]] == OURS
    assert {WITH[k] for k in chosen[1:]} != {OURS}


def numbers_with(ours: float, corrected: float) -> Numbers:
    """Return numbers in which each ratio ends at `ours` of tuned linear's."""
    units = plan.units(SMALL)
    found = []
    for unit in units:
        names = plan.names(SMALL, unit)
        logs = [{"linear": 0.0}.get(name, np.log(ours)) for name in names]
        both = np.array([logs, logs]).T
        both[["online" in name for name in names]] += np.log(corrected)
        found.append((names, both))
    return numbers_from(SMALL, units, found)


def test_claims_on_the_law_can_fail():
    def outcomes(ours: float, corrected: float = 1.0) -> list[str]:
        numbers = numbers_with(ours, corrected)
        return [claim.outcome for claim in claims(numbers, fit(numbers))]

    good, bad = outcomes(0.9, 0.99), outcomes(1.5, 1.02)
    assert good[3:7] == ["held"] * 4
    assert bad[3:7] == ["missed"] * 4
    assert (good[-4], bad[-4]) == ("held", "missed")  # the correction ends no task higher
    assert (good[-3], bad[-3]) == ("held", "missed")  # nor where the ratio is too small
    assert (good[-1], bad[-1]) == ("held", "missed")  # the control
