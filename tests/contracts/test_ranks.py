"""Processes that train together have the same rates, to the last bit: real processes, gloo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.ranks import CASES, STEPS, follow, local_losses
from tests.contracts.rules import ROWS, make_optimizer
from tests.processes import Python

ROOT = Path(__file__).parents[2]
RESTARTS = (1, 3)


def run_together(world: int, folder: Path, *names: str) -> None:
    """Run the cases on `world` processes and wait for them."""
    processes = [
        Python(
            "-m", "tests.contracts.ranks", str(rank), str(world), str(folder), *names,
            cwd=ROOT, logs=folder / f"logs-{world}-{rank}",
        )
        for rank in range(world)
    ]  # fmt: skip
    for process in processes:
        done = process.end()
        assert done.status == 0, done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each rank saw in each case, ``"case-world"`` -> a list by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    run_together(2, folder, *(case.__name__ for case in CASES if case.__name__ != "resume"))
    for world in RESTARTS:
        run_together(world, folder, "resume")
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*-*-*.json")):
        found.setdefault(path.stem.rsplit("-", 1)[0], []).append(json.loads(path.read_text()))
    return found


def mean_losses(ranks: int) -> list[float]:
    """Return what the ranks agree on."""
    return [sum(losses) / ranks for losses in zip(*map(local_losses, range(ranks)), strict=True)]


@pytest.mark.parametrize("case", ["mean-2", "on_device-2", "one_nan-2", "rank0-2", "save-2"])
def test_all_ranks_have_the_same_rates_to_the_last_bit(results: dict[str, Any], case: str):
    first, second = results[case]
    assert first == second
    assert any(len({rates[0] for rates in seen}) > 2 for seen in first.values())


@pytest.mark.parametrize("case", ["mean-2", "on_device-2"])
def test_the_rates_are_those_of_the_mean_loss(results: dict[str, Any], case: str):
    for row in ROWS:
        wanted = follow(row.make(make_optimizer(0.01, 0.02)), mean_losses(2))
        assert results[case][0][row.name] == wanted, row.name


def test_rank0_decides_alone_and_the_others_need_no_loss(results: dict[str, Any]):
    for row in ROWS:
        if row.takes("sync"):
            wanted = follow(row.make(make_optimizer(0.01, 0.02)), local_losses(0))
            assert results["rank0-2"][1][row.name] == wanted, row.name


def test_one_rank_s_nan_is_a_bad_step_on_all(results: dict[str, Any]):
    with_nan, without = results["one_nan-2"][0], results["mean-2"][0]
    assert any(with_nan[row.name] != without[row.name] for row in ROWS)


def test_one_rank_s_nan_raises_on_all(results: dict[str, Any]):
    assert all("loss is nan at step 2" in (message or "") for message in results["raises-2"])


def test_without_agreement_the_ranks_part_and_a_check_tells(results: dict[str, Any]):
    first, second = results["apart-2"]
    assert first["rates"] != second["rates"], "the losses are too alike to show anything"
    for found in (first, second):
        assert "rank 1 has" in found["error"]
        assert "sync='mean'" in found["error"]
    assert [found["error"] for found in results["agreed-2"]] == [None, None]


@pytest.mark.parametrize("world", RESTARTS)
def test_a_restart_with_another_number_of_processes_goes_on_to_the_bit(
    results: dict[str, Any], world: int
):
    half = STEPS // 2 + 1  # a whole number of periods in every row
    for row in ROWS:
        scheduler = row.make(make_optimizer(0.01, 0.02))
        follow(scheduler, mean_losses(2)[:half])
        wanted = follow(scheduler, local_losses(0)[half:])
        for seen in results[f"resume-{world}"]:
            assert seen[row.name] == wanted, row.name


def test_a_spike_on_one_rank_takes_all_back(results: dict[str, Any]):
    for found in results["guard-2"]:
        assert found == {"spiked": [False, False, True, False], "lr": 0.005}


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *a, **k: pytest.fail("sent"))
    scheduler = ROWS[1].make(make_optimizer(0.01))
    follow(scheduler, local_losses(0))
    scheduler.check_agreement()
