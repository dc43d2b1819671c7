"""What steering runs costs: the code, not its times."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidence.how import How
from evidence.speed import update_ratio_cost
from ratewise.errors import StoreError

QUICK = update_ratio_cost.SIZES["quick"]


def test_the_page_has_every_contender_and_is_the_same_from_what_was_kept(tmp_path: Path):
    page = tmp_path / "cost.md"
    update_ratio_cost.run(How(tmp_path, page), QUICK)
    text = page.read_text()
    assert "Made by `python -m evidence update-ratio-cost`" in text
    for name in (
        "per tensor: measured",
        "LearnedLR: between",
        'per="group"',
        "no scheduler, again",
    ):
        assert name in text
    assert "A policy decides in" in text
    update_ratio_cost.run(How(tmp_path, page, page_only=True), QUICK)
    assert page.read_text() == text


def test_memory_is_that_of_a_process_of_its_own():
    assert 50 < update_ratio_cost.memory(update_ratio_cost.AGAIN, QUICK.size) < 5000


def test_what_was_not_measured_is_told_so(tmp_path: Path):
    with pytest.raises(StoreError, match="measure first"):
        update_ratio_cost.run(How(tmp_path, tmp_path / "cost.md", page_only=True), QUICK)
    assert not list(tmp_path.iterdir())
