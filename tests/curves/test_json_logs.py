"""Trainer's state, ratewise's events, and the history of Weights & Biases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ratewise import GreedyLR, JSONLWriter
from ratewise.curves import read
from ratewise.errors import CorruptData


def test_trainers_state(tmp_path: Path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from tests.integrations.trainer_runs import Tiny, rows
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(tmp_path / "mine"), max_steps=12, per_device_train_batch_size=4, logging_steps=2,
        learning_rate=0.02, lr_scheduler_type="linear", report_to="none", disable_tqdm=True,
        use_cpu=True, log_level="error", save_steps=6, eval_strategy="steps", eval_steps=6,
    )  # fmt: skip
    trainer = Trainer(Tiny(), arguments, train_dataset=rows(), eval_dataset=rows(8))
    trainer.train()
    states = sorted(path.parent.name for path in tmp_path.rglob("trainer_state.json"))
    assert states == ["checkpoint-12", "checkpoint-6"]
    (curve,) = read(tmp_path).curves  # the later state has all of the earlier one
    assert curve.name == "mine"
    assert curve.train_loss.step.tolist() == [2, 4, 6, 8, 10, 12]
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert curve.train_loss.value.tolist() == logged
    assert curve.held_out_loss.step.tolist() == [6, 12]
    # of a linear fall over 12 steps, after step - 1 of them
    expected = [0.02 * (12 - (step - 1)) / 12 for step in curve.lr.step.tolist()]
    assert curve.lr.value == pytest.approx(expected)
    assert (curve.facts.batch_size, curve.facts.total_steps) == (4, 12)
    assert curve.left_out == ()


def test_events_of_ratewise(tmp_path: Path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = GreedyLR(optimizer, factor=0.5, patience=1, window=1)
    used = []
    with JSONLWriter(tmp_path / "events.jsonl") as writer:
        scheduler.add_listener(writer)
        for loss in (3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(loss)
    (curve,) = read(tmp_path / "events.jsonl").curves
    assert len(set(used)) > 2
    known = dict(zip(curve.lr.step.tolist(), curve.lr.value.tolist(), strict=True))
    inside = {step: rate for step, rate in known.items() if step <= len(used)}
    assert len(inside) > 3
    assert inside == {step: used[step - 1] for step in inside}
    assert set(curve.train_loss.value.tolist()) <= {3.0, 2.0, 1.0, 4.0, 5.0, 6.0}


HISTORY = [
    {"_step": 0, "train": {"loss": 3.0}, "lr": 0.1, "_runtime": 1.0},
    {"_step": 10, "train": {"loss": 2.0}, "lr": 0.2},
    {"_step": 10, "val": {"loss": 2.5}},
    {"_step": 20, "train": {"loss": "NaN"}, "lr": 0.1},
]


@pytest.mark.parametrize("form", ["rows", "lines", "columns"])
def test_a_history_of_weights_and_biases(tmp_path: Path, form: str):
    path = tmp_path / ("history.jsonl" if form == "lines" else "history.json")
    if form == "lines":
        path.write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    elif form == "rows":
        path.write_text(json.dumps(HISTORY))
    else:
        table = {"_step": [0, 10, 10, 20], "train/loss": [3.0, 2.0, None, "NaN"]}
        table |= {"lr": [0.1, 0.2, None, 0.1], "val/loss": [None, None, 2.5, None]}
        path.write_text(json.dumps({**table, "project": "mine"}))
    (curve,) = read(path).curves
    assert curve.train_loss.step.tolist() == [0, 10]
    assert curve.lr.value.tolist() == [0.1, 0.2, 0.1]
    assert (curve.held_out_loss.step.tolist(), curve.diverged_at) == ([10], 20)


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path):
    text = "".join(json.dumps({"step": i, "loss": 3.0 - i}) + "\n" for i in range(3))
    path = tmp_path / "log.jsonl"
    path.write_text(text[:-5])
    (curve,) = read(path).curves
    assert curve.train_loss.step.tolist() == [0, 1]
    assert curve.left_out == ("the last line, half-written",)
    path.write_text(text[:20] + "\n" + text[20:])
    (curve,) = read(path).curves
    assert curve.left_out[0].endswith("lines that are no objects of JSON")


@pytest.mark.parametrize("text", ["{", "3", '{"a": 1}', "[" * 100_000, "[1, 2]", "\xff"])
def test_other_json_is_no_log(tmp_path: Path, text: str):
    path = tmp_path / "log.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CorruptData):
        read(path)
