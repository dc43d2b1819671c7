"""UpdateRatioLR on two processes: real ones, gloo. Shards are steered as the whole tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import Python
from tests.schedulers.update_ratio_ranks import MODES, length, network, seen, train

ROOT = Path(__file__).parents[2]
every_mode = pytest.mark.parametrize("per", MODES)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks saw, case and mode -> result."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        Python(
            "-m", "tests.schedulers.update_ratio_ranks", str(rank), "2", str(folder),
            cwd=ROOT, logs=folder / f"logs-{rank}",
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        done = process.end()
        assert done.status == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@every_mode
@pytest.mark.parametrize("case", ["parallel", "sharded", "mixed"])
def test_all_ranks_have_the_same_factors_and_weights_to_the_last_bit(
    ranks: list[Any], case: str, per: str
):
    assert ranks[0][f"{case} {per}"] == ranks[1][f"{case} {per}"]


@every_mode
@pytest.mark.parametrize("case", ["parallel", "sharded", "mixed"])
def test_they_are_those_of_one_process(ranks: list[Any], case: str, per: str):
    model = network()
    alone = seen(model, train(model, per))
    together = ranks[0][f"{case} {per}"]
    for name in alone:
        torch.testing.assert_close(
            torch.tensor(together[name]), torch.tensor(alone[name]), rtol=2e-3, atol=1e-4
        )


@every_mode
def test_half_a_batch_would_have_given_others(per: str):
    one, other = network(), network()
    first, second = seen(one, train(one, per)), seen(other, train(other, per, 0))
    difference = torch.tensor(first["weights"]) - torch.tensor(second["weights"])
    assert float(difference.abs().max()) > 0.01


@every_mode
def test_ranks_that_part_are_told(ranks: list[Any], per: str):
    for found in ranks:
        step = length(per)
        told = f"RanksDisagree: at step {step} the ranks' tensors have"
        assert found[f"apart {per}"].startswith(told)


def test_the_gradients_have_corrected_something(ranks: list[Any]):
    assert abs(ranks[0]["sharded online"]["correction"][0] - 1.0) > 0.01
