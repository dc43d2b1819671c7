"""Whether two files of results are the same is seen to the last bit, and apart from seconds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.pool import same

from evidence.results import Result, Results
from evidence.robustness import plan

RUN = Result("quadratic", "greedy", "", 0, "simulated", 200, [0.1, math.nan, -0.0], 1.0, "{}")


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"seconds": 9.0}, True),
        ({"losses": [math.nextafter(0.1, 1.0), math.nan, -0.0]}, False),
        ({"losses": [0.1, math.nan, 0.0]}, False),
        ({"setting": "lr 1"}, False),
        ({"setting": "lr 1", "versions": '{"code": "another"}'}, True),
    ],
)
def test_a_study_is_held_against_the_committed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], outcome: bool
):
    settings = same.study(["quadratic", "rosenbrock"])
    first, second, *_ = plan.wanted(settings)
    found, committed = Results(tmp_path / "found.parquet"), Results(tmp_path / "kept.parquet")
    committed.add(first, [RUN])
    committed.add(second, [RUN])
    found.add(second, [RUN._replace(**change)])
    found = Results(tmp_path / "found.parquet")  # as it is read again
    assert same.hold(found, committed, settings) is outcome
    assert (
        f"1 of {len(plan.wanted(settings))} units, 1 runs: {int(not outcome)} differ, "
        in capsys.readouterr().out
    )
