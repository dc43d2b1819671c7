"""What a cluster costs, in small: the page follows from what was measured, and can say "missed"."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from evidence.how import How
from evidence.speed import cluster_cost, made_up
from evidence.speed.cluster_cost import SIZES, Size
from ratewise.errors import StoreError
from ratewise.runs import Store

MEASURED: dict[str, Any] = {
    "size": Size()._asdict(),
    "large": {
        "runs": 1e6, "files": 1000, "bytes": 4e8, 
        "seconds": 5.0, "cpu": 4.0, "memory": 1.5e9,
    },
    "shares": {"bytes": 5000.0, "taken": 1e-4, "stored": {"1": 8e-3, "1000": 3e-4}},
    "fed": {"cpu": 5e-4, "wall": 1e-3, "batch": 200.0},
    "overhead": {"ray": [5.1, 5.2, 5.1], "processes": [5.0, 5.1, 5.0]},
    "on": "a machine",
}  # fmt: skip


def outcomes(measured: dict[str, Any]) -> list[str]:
    rows = [line for line in cluster_cost.text(measured).splitlines() if line.startswith("|")]
    return [word for row in rows for word in row.split() if word in ("held", "missed")]


def test_the_page_says_what_follows():
    page = cluster_cost.text(MEASURED)
    assert outcomes(MEASURED) == ["held", "held"]
    assert "about 2500 runs a second" in page
    assert "from 25000 workers" in page


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("overhead", "ray", [5.6, 5.7, 5.6]), ("large", "seconds", 11.0), ("large", "memory", 3e9)],
)
def test_it_can_say_missed(part: str, name: str, value: Any):
    odd = copy.deepcopy(MEASURED)
    odd[part][name] = value
    assert "missed" in outcomes(odd)


def test_a_store_is_filled_once_and_asked(tmp_path: Path):
    size = SIZES["quick"]
    found = cluster_cost.large(size, tmp_path / "store")
    assert found["runs"] == size.stored == len(Store(tmp_path / "store").run_ids())
    assert not list(
        made_up.fill(tmp_path / "store", size.stored_points, size.stored, 1_000, alike=True)
    )


def test_nothing_is_written_where_nothing_was_measured(tmp_path: Path):
    with pytest.raises(StoreError, match="measure first"):
        cluster_cost.run(How(tmp_path, tmp_path / "page.md", page_only=True), SIZES["quick"])
    assert not list(tmp_path.iterdir())
