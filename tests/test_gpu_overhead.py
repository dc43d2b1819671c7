"""benchmarks/gpu_overhead.py: its code runs to the end on the CPU; what it times is not judged."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu_overhead.py"
#: Scheduler and kind of rate, one row each.
ROWS = {
    ("no scheduler, again", "float"),
    ("no scheduler, again", "tensor"),
    ("torch CosineAnnealingLR", "float"),
    ("torch CosineAnnealingLR", "tensor"),
    ("ratewise.GreedyLR", "float"),
    ("ratewise.GreedyLR", "tensor"),
    ("ratewise.GreedyLR, every=10", "tensor"),
}
if importlib.util.find_spec("transformers"):
    ROWS.add(("transformers.GreedyLR, loss.item()", "float"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark where no CUDA device can be seen."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows(page: str) -> list[tuple[str, str]]:
    """Return the first two cells of each line of the table; every line must be whole."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    for row in cells:
        for number in [row[2], row[3], *row[4].split(" to "), *row[5:]]:
            float(number)
    return [(row[0], row[1]) for row in cells]


def test_the_table_has_every_row_and_goes_into_the_page(tmp_path: Path):
    page = tmp_path / "page.md"
    trial = ("--device", "cpu", "--small", "--steps", "3", "--repeats", "2", "--out", str(page))
    done = run(*trial)
    assert done.returncode == 0, done.stderr
    assert sorted(rows(done.stdout)) == sorted(ROWS)
    assert done.stdout.count("goal at most 0.1%") == 3
    assert "no measurement" in done.stdout
    written = page.read_text(encoding="utf-8")
    assert done.stdout.strip() in written
    assert (
        "Made by `python benchmarks/gpu_overhead.py --steps 3 --repeats 2 --device cpu" in written
    )


def test_a_missing_row_or_number_is_seen():
    table = "| scheduler | rate |\n| --- | --- |\n| a | float | 1 | 2 | 3 to 4 | 5 | 6 | 7 |\n"
    assert rows(table) == [("a", "float")]
    with pytest.raises(ValueError, match="soon"):
        rows(table.replace("2", "soon"))


def test_without_a_gpu_it_says_so_in_one_line_and_writes_nothing(tmp_path: Path):
    done = run("--out", str(tmp_path / "page.md"))
    assert (done.returncode, done.stdout) == (0, "not measured: no CUDA device\n"), done.stderr
    assert not list(tmp_path.iterdir())


def test_the_whole_model_is_not_started_on_a_cpu():
    done = run("--device", "cpu")
    assert done.returncode == 2
    assert "--small" in done.stderr


def test_the_page_claims_nothing_that_was_not_measured():
    page = (ROOT / "docs" / "evidence" / "gpu-overhead.md").read_text(encoding="utf-8")
    assert "Made by `python benchmarks/gpu_overhead.py" in page or "Not measured" in page
