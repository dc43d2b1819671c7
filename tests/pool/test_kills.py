"""A node of a cluster is killed; `python -m tests.pool.kills` does it as often as asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.processes import Python


def test_no_run_is_lost_with_a_node_and_none_is_stored_twice(tmp_path: Path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'ratewise[ray]'")
    line = ["-m", "tests.pool.kills", "--kills", "2", "--nodes", "2", "--runs", "30"]
    done = Python(*line, cwd=Path(__file__).parents[2], logs=tmp_path).end()
    assert done.status == 0, done.stderr
    assert "2 kills of a node" in done.stdout
    assert "60 runs, each stored once with the same numbers" in done.stdout
