"""The benchmark of steering runs: its code, not its times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "update_ratio_cost.py"


def test_the_page_has_every_contender_and_says_how_it_was_made(tmp_path: Path):
    page = tmp_path / "cost.md"
    command = [sys.executable, str(SCRIPT), "--small", "--repeats", "2", "--out", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "--small --repeats 2" in text or "--repeats 2 --small" in text
    for name in (
        "per tensor: measured",
        "LearnedLR: between",
        'per="group"',
        "no scheduler, again",
    ):
        assert name in text
    assert "A policy decides in" in text
