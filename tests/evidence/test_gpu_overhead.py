"""What a scheduler adds on a GPU: the code runs to the end on the CPU; no time is judged."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from evidence.how import How
from evidence.speed import gpu_overhead, kept

ROOT = Path(__file__).parents[2]
#: Scheduler and kind of rate, one row each.
ROWS = {
    ("no scheduler, again", "float"),
    ("no scheduler, again", "tensor"),
    ("torch CosineAnnealingLR", "float"),
    ("torch CosineAnnealingLR", "tensor"),
    ("ratewise.GreedyLR", "float"),
    ("ratewise.GreedyLR", "tensor"),
    ("ratewise.GreedyLR, decide_every=10", "tensor"),
}
if importlib.util.find_spec("transformers"):
    ROWS.add(("transformers.GreedyLR, loss.item()", "float"))


def rows(page: str) -> list[tuple[str, str]]:
    """Return the first two cells of each line of the table; every line must be whole."""
    lines = [x for x in page[page.index("Made by") :].splitlines() if x.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    for row in cells:
        for number in [row[2], row[3], *row[4].split(" to "), *row[5:]]:
            float(number)
    return [(row[0], row[1]) for row in cells]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    page = tmp_path / "docs" / "page.md"
    gpu_overhead.run(How(tmp_path, page), gpu_overhead.SIZES["quick"])
    return page


def test_the_page_has_every_row_and_is_the_same_from_what_was_kept(written: Path):
    text = written.read_text(encoding="utf-8")
    assert sorted(rows(text)) == sorted(ROWS)
    assert text.count("adds at most 0.1% of a step") >= 3
    assert "no measurement" in text
    assert "Made by `python -m evidence gpu-overhead`" in text
    written.unlink()
    gpu_overhead.run(How(written.parent, written, page_only=True), None)
    assert written.read_text(encoding="utf-8") == text


def test_a_missing_row_or_number_is_seen():
    table = (
        "Made by\n| scheduler | rate |\n| --- | --- |\n| a | float | 1 | 2 | 3 to 4 | 5 | 6 | 7 |\n"
    )
    assert rows(table) == [("a", "float")]
    with pytest.raises(ValueError, match="soon"):
        rows(table.replace("2", "soon"))


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(kept.NotMeasured, match="no CUDA device"):
        gpu_overhead.run(How(tmp_path, tmp_path / "page.md"), gpu_overhead.SIZES[""])
    assert not list(tmp_path.iterdir())


def test_the_page_claims_nothing_that_was_not_measured():
    page = (ROOT / "docs" / "evidence" / "gpu-overhead.md").read_text(encoding="utf-8")
    assert "Made by `python -m evidence gpu-overhead`" in page or "Not measured" in page
