"""The study of the ratio in miniature: it goes on, fits what is planted, and never peeks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evidence.how import How
from evidence.results import Result, Results
from evidence.update_ratio import numbers as numbers_of
from evidence.update_ratio import plan
from evidence.update_ratio import run as running
from evidence.update_ratio.claims import claims, fit
from evidence.update_ratio.numbers import (
    RULES,
    criterion,
    left_out,
    numbers_from,
    scores,
)
from evidence.update_ratio.plan import TASKS, Settings
from ratewise import simulate
from ratewise.errors import StoreError
from ratewise.learning.tasks import JUDGING, TRAINING
from ratewise.rules.ratio_law import DEFAULT, default_ratio

SMALL = Settings(
    tasks=("mlp, small", "mlp, large"), horizons=(20, 40), ratios=(0.01, 0.02, 0.08), rates=2
)
STEPS = [unit.steps for unit in plan.units(Settings())]
NAMES = [unit.task for unit in plan.units(Settings())]
#: Finer than the study's, so that reading between them hides nothing.
RATIOS = tuple(np.geomspace(0.00125, 0.08, 61).tolist())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("update-ratio")
    page = folder / "docs" / "update-ratio.md"
    running.run(How(folder / "runs", page, progress=False), SMALL)
    return folder / "runs", page


def kept(made: tuple[Path, Path]) -> Results:
    return Results(made[0] / "update-ratio.parquet")


def test_the_page_says_what_is_needed(made: tuple[Path, Path]):
    text = made[1].read_text()
    words = " ".join(text.split())
    for needed in (
        "Made by `python -m evidence update-ratio --data DATA`",
        "80 simulated trainings: 2 tasks",
        "## Every ratio against tuned cosine",
        "## Regret",
        "## The fit",
        f"is {DEFAULT.level:g} (300/T)^{DEFAULT.power:g} within",
        "Chosen without a task",
        "(update-ratio.png)",
    ):
        assert needed in words
    assert "nan" not in text
    assert (made[1].parent / "update-ratio.png").stat().st_size > 5000


def test_nothing_is_simulated_twice(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: Any, **__: Any) -> None:
        raise RuntimeError("simulated again")

    before = made[1].read_text()
    monkeypatch.setattr(simulate, "run", forbidden)
    running.run(How(made[0], made[1], progress=False), SMALL)
    assert made[1].read_text() == before


def test_a_missing_run_is_an_error(made: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(StoreError, match="without --page-only"):
        numbers_of.load(Results(tmp_path / "empty.parquet"), SMALL)
    assert numbers_of.load(kept(made), SMALL).ours.shape == (2, 8, 3)


def test_stored_runs_are_where_the_page_looks_for_them(made: tuple[Path, Path]):
    numbers = numbers_of.load(kept(made), SMALL)
    unit = plan.Unit("mlp, large", "sgd", 40)
    finals: dict[tuple[str, str], list[float]] = {}
    for run in kept(made).of(plan.digest(plan.planned(SMALL, unit))):
        assert (run.task, run.steps, run.role) == ("mlp, large", 40, "simulated")
        initial, _, held_out = run.losses
        log = float(np.log(np.clip(held_out / initial, 0.01, 10)))
        finals.setdefault((run.method, run.setting), []).append(log)
    assert {len(logs) for logs in finals.values()} == {len(SMALL.seeds)}
    tuned = min(np.mean(logs) for (name, _), logs in finals.items() if name == "cosine")
    ours = [f"sgd, lr 0.01, ratio {x:g}".replace(", ratio 0.01", "") for x in SMALL.ratios]
    wanted = [np.mean(finals["update-ratio", name]) - tuned for name in ours]
    at = plan.units(SMALL).index(unit)
    np.testing.assert_allclose(numbers.ours[1, at], wanted, atol=1e-6)


def test_the_losses_that_are_kept_are_limited(tmp_path: Path):
    settings = Settings(("mlp, small",), ("sgd",), (20,), ratios=(0.01,), rates=1, seeds=(1,))
    (name,), results = plan.wanted(settings), Results(tmp_path / "study.parquet")
    ours = Result("mlp, small", "", "", 1, "simulated", 20, [2.0, 1e-9, math.inf], 0.0, "{}")
    results.add(name, [ours, ours._replace(losses=[2.0, 2.0, 2.0])])
    numbers = numbers_of.load(results, settings)
    np.testing.assert_allclose(np.exp(numbers.ours[:, 0, 0]), [0.01, 10.0])
    np.testing.assert_array_equal(numbers.failed, [[0, 0], [0, 0]])
    results.add(name, [ours._replace(losses=[2.0, math.inf, math.inf]), ours])
    np.testing.assert_array_equal(numbers_of.load(results, settings).failed, [[1, 0], [1, 0]])


def judged(tasks: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the tasks whose data may not be trained on; what names no data counts as such."""
    used = {name: options.get("data", "?") for name, (_, options) in tasks.items()}
    return [name for name, data in used.items() if data in JUDGING or data not in TRAINING]


def test_no_task_uses_data_that_judge():
    assert judged(TASKS) == []
    assert judged({**TASKS, "digits": ("mlp", {"data": "digits"})}) == ["digits"]
    assert judged({"unnamed": ("gru", {})}) == ["unnamed"]


def planted(level: float, power: float) -> np.ndarray:
    """Return regrets that are least where the ratio is the rule's."""
    target = np.log([level * (300 / steps) ** power for steps in STEPS])
    one = 0.2 * (np.log(RATIOS) - target[:, None]) ** 2
    return np.minimum(np.stack([one, 0.5 * one]), 1.0)


@pytest.mark.parametrize("rule", [(0.02, 0.5), (0.034, 0.25), (0.012, 0.8)])
def test_the_fit_finds_the_rule_that_was_planted(rule: tuple[float, float]):
    found = criterion(scores(planted(*rule), STEPS, RATIOS))
    assert RULES[int(found.argmin())] == rule
    assert found.min() == pytest.approx(0, abs=1e-3)
    assert np.sort(found)[1] > 1e-3  # no other does as well


def test_two_losses_that_disagree_are_weighed():
    regret = planted(0.01, 0.5)
    regret[1] = planted(0.04, 0.5)[0]  # as strong as the first
    level, power = RULES[int(criterion(scores(regret, STEPS, RATIOS)).argmin())]
    assert power == 0.5
    assert 0.01 < level < 0.04


def test_a_task_that_is_left_out_does_not_choose():
    same = scores(planted(0.02, 0.5), STEPS, RATIOS)
    regret, chosen = left_out(same, NAMES)
    assert regret == pytest.approx(criterion(same).min())
    assert {RULES[k] for k in chosen} == {(0.02, 0.5)}
    odd = same.copy()
    other = np.array(NAMES) == "gru"
    odd[..., other] = scores(20 * planted(0.04, 1.0), STEPS, RATIOS)[..., other]
    regret, chosen = left_out(odd, NAMES)
    at = list(dict.fromkeys(NAMES)).index("gru")
    assert RULES[chosen[at]] == (0.02, 0.5)
    assert {RULES[k] for n, k in enumerate(chosen) if n != at} != {(0.02, 0.5)}
    assert regret > criterion(odd).min() + 0.1


def test_ratios_are_to_the_best_rate_and_regrets_to_the_best_ratio():
    units = plan.units(SMALL)
    one = np.log([0.4, 0.2, 8.0, 0.25, 0.5])  # three ratios, two rates
    losses = np.broadcast_to(one, (2, len(units), 5))
    failed = np.zeros((2, len(units), 5, 2), bool)
    failed[1, 0, 2, :] = True
    numbers = numbers_from(SMALL, losses, failed)
    np.testing.assert_allclose(np.exp(numbers.ours[0, 0]), [1.6, 0.8, 32.0])
    np.testing.assert_allclose(np.exp(numbers.cosine[0, 0]), [1.0, 2.0])
    np.testing.assert_allclose(numbers.regret[1, 3], [np.log(2), 0.0, 1.0])
    np.testing.assert_array_equal(numbers.failed[1], [0, 0, 2, 0, 0])
    assert {name: int(mask.sum()) for name, mask in numbers.groups().items()} == {
        "all": 8,
        "large": 4,
        "small": 4,
    }


def test_the_default_is_the_rule_that_it_says():
    for steps in (100, 300, 1000, 2000):
        wanted = DEFAULT.level * (300 / steps) ** DEFAULT.power
        assert default_ratio(steps) == pytest.approx(wanted)
    assert default_ratio(1) == DEFAULT.most
    assert default_ratio(10**9) == DEFAULT.least
    assert default_ratio(None) == DEFAULT.unknown
    assert (DEFAULT.level, DEFAULT.power) in RULES


def test_claims_on_the_default_can_fail():
    units = plan.units(SMALL)

    def outcomes(ours: float) -> list[str]:
        one = np.log([ours, ours, ours, 0.4, 0.5])  # three ratios, two rates
        losses = np.broadcast_to(one, (2, len(units), 5))
        numbers = numbers_from(SMALL, losses, np.zeros((2, len(units), 5, 2), bool))
        return [claim.outcome for claim in claims(numbers, fit(numbers))]

    assert outcomes(0.39)[-2:] == ["held", "held"]
    assert outcomes(4.0)[-2:] == ["missed", "missed"]
