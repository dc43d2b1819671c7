"""Plans: what their files hold, how they are refused, and that a few knots are near the rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ratewise.errors import CorruptPlan, InvalidArgument, WrongType
from ratewise.rules import plan as plans
from ratewise.rules.plan import Height, Plan

AHEAD = {"which": "held_out", "loss": 3.0, "low": 2.9, "high": 3.1, "level": 0.9}
PLAN = Plan(((1, 0.0), (20, 3e-4), (60, 3e-4), (100, 0.0)), {"runs": ["a", "b"]}, AHEAD)


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "plan.json"
    plans.write(path, PLAN)
    read = plans.read(path)
    assert read == PLAN
    assert read.digest == PLAN.digest
    assert list(read.rates()) == pytest.approx([PLAN.rate(step) for step in range(1, 101)])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.update(format=2), "format 2, this version reads 1"),
        (lambda s: s.pop("format"), "format None"),
        (lambda s: s.update(surprise=1), "surprise"),
        (lambda s: s.pop("knots"), "knots"),
        (lambda s: s["knots"].reverse(), "rise from 1"),
        (lambda s: s.update(knots=[]), "rise from 1"),
        (lambda s: s["knots"][1].__setitem__(1, -1.0), r"knots'\]\[1\]\[1\]"),
        (lambda s: s["knots"][1].__setitem__(1, "3e-4"), "finite number"),
        (lambda s: s["knots"][1].__setitem__(0, 20.5), "integer"),
        (lambda s: s["knots"].__setitem__(1, [20]), "2 long"),
        (lambda s: s.update(knots=[[1, 0.0], [100, 0.0]]), "above 0"),
        (lambda s: s.update(total_steps=99), "total_steps 99"),
        (lambda s: s["knots"][1].__setitem__(1, 4e-4), "not what was written"),
        (lambda s: s["forecast"].update(loss=2.0), "not what was written"),
        (lambda s: s.update(provenance=[]), "provenance"),
    ],
)
def test_a_damaged_file_is_refused_by_name(spoil: Any, words: str, tmp_path: Path):
    path = tmp_path / "plan.json"
    plans.write(path, PLAN)
    said = json.loads(path.read_text())
    spoil(said)
    path.write_text(json.dumps(said))
    with pytest.raises(CorruptPlan, match=words):
        plans.read(path)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"format": NaN}', "[" * 100_000, "\xff\x00"])
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CorruptPlan, match=r"plan\.json"):
        plans.read(path)


def test_a_file_that_is_missing_or_a_thing_that_is_no_plan(tmp_path: Path):
    with pytest.raises(CorruptPlan, match="missing"):
        plans.read(tmp_path / "none.json")
    with pytest.raises(WrongType, match="plan must be a path or a Plan"):
        plans.opened(3)


def test_few_knots_come_near_any_rates():
    steps = np.arange(5000)
    for rates in (
        3e-4 * (1 + np.cos(np.pi * steps / 5000)),
        np.where(steps < 3000, 1.0, 0.1),
        np.minimum(steps / 200, 1.0) * (1 - steps / 5000) ** 2,
    ):
        plan = plans.from_rates(rates)
        assert np.abs(plan.rates() - rates).max() <= 1e-4 * rates.max()
        assert len(plan.knots) < 150
        exact = plans.from_rates(rates[:400], tolerance=0.0)
        assert np.abs(exact.rates() - rates[:400]).max() < 1e-15


@pytest.mark.parametrize("rates", [[], [0.0, 0.0], [1.0, np.nan], [1.0, -1.0], [[1.0]]])
def test_rates_that_no_training_has(rates: Any):
    with pytest.raises(InvalidArgument, match="rates must be finite"):
        plans.from_rates(rates)


def test_another_length_is_refused_unless_it_was_said_what_to_do():
    with pytest.raises(InvalidArgument, match="for 100 steps, the run has 50"):
        Height(PLAN, 50)
    stretched = Height(PLAN, 199, "stretch")
    assert [stretched(2 * step) for step in range(100)] == pytest.approx(
        [PLAN.rate(step + 1) / PLAN.peak_lr for step in range(100)]
    )
    assert Height(PLAN, 50, "keep")(49) == PLAN.rate(50) / PLAN.peak_lr
