"""A slice of the damaged stores; `python -m tests.fuzz` tries many more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fuzz import stores


@pytest.mark.parametrize("name", stores.REGRESSIONS)
def test_known_faults_stay_away(tmp_path: Path, name: str):
    stores.REGRESSIONS[name](tmp_path)


def test_damaged_stores_lose_no_good_run(tmp_path: Path):
    outcomes = set()
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.add(stores.case(np.random.default_rng([0, number]), folder))
    assert len(outcomes) > 1, "every case comes to the same"
