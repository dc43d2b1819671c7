"""Events reach their listeners: a file that always parses, TensorBoard, logging; a device later."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.rules import make_optimizer, metrics

from ratewise import GreedyConfig, GreedyLR
from ratewise.errors import InvalidArgument, WrongType
from ratewise.schedulers.events import Event
from ratewise.schedulers.listeners import JSONLWriter, TensorBoardWriter
from ratewise.schedulers.metric_lr import SYNC_EVERY

QUICK: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}


def trained(*listeners: Any, losses: Any = None, tensor: bool = False, **more: Any) -> GreedyLR:
    """Return a scheduler that has stepped through losses, with its listeners."""
    scheduler = GreedyLR(make_optimizer(0.01, 0.02, tensor=tensor), **QUICK | more)
    for listener in listeners:
        scheduler.add_listener(listener)
    for loss in metrics(60) if losses is None else losses:
        scheduler.step(torch.tensor(loss, dtype=torch.float64) if tensor else loss)
    return scheduler


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps(events: list[Event]) -> list[int]:
    return [event.step for event in events]


# -- JSON lines ---------------------------------------------------------------------------------


def test_each_event_is_a_line_at_once(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    writer = JSONLWriter(path)
    scheduler, counts = trained(writer, losses=[]), []
    for loss in metrics(60):
        scheduler.step(loss)
        counts.append(len(rows(path)) - len(scheduler.events))
    assert set(counts) == {0}, "the file lags behind"
    found = rows(path)
    assert {row["reason"] for row in found} == {"increase", "decrease"}
    assert [Event(**row)._replace(old_lr=(), new_lr=()) for row in found] == [
        event._replace(old_lr=(), new_lr=()) for event in scheduler.events
    ]
    assert [row["new_lr"] for row in found] == [list(event.new_lr) for event in scheduler.events]


def test_what_is_not_finite_is_null_and_strict_json(tmp_path: Path):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    path = tmp_path / "events.jsonl"
    with JSONLWriter(path) as writer:
        trained(writer, losses=[1.0, math.nan, math.inf, math.nan, -math.inf])
    found = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert [row["metric"] for row in found] == [None, None]
    assert [row["reason"] for row in found] == ["decrease", "decrease"]


def test_more_writers_append(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with JSONLWriter(path) as writer:
        first = trained(writer)
    with JSONLWriter(str(path)) as writer:
        trained(writer)
    assert [row["step"] for row in rows(path)] == steps(first.events) * 2


def test_wherever_a_line_was_cut_the_next_writer_mends_it(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with JSONLWriter(path) as writer:
        trained(writer)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    before = b"".join(lines[:-1])
    for length in range(len(lines[-1]) + 1):
        path.write_bytes(before + lines[-1][:length])
        JSONLWriter(path).close()
        kept = whole if length >= len(lines[-1]) - 1 else before
        assert path.read_bytes() == kept, length
    path.write_bytes(lines[0][:20])
    JSONLWriter(path).close()
    assert path.read_bytes() == b"", "a file of half a line"


def test_long_lines_are_mended_too(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with JSONLWriter(path) as writer:
        writer(Event(1, 0.0, 0.0, 0.0, 0, 0, "increase", (0.1,) * 30_000, (0.2,) * 30_000))
    size = path.stat().st_size
    assert size > 2 * 65536
    with path.open("ab") as file:
        file.write(path.read_bytes()[:-7])
    JSONLWriter(path).close()
    assert path.stat().st_size == size


KILLED = """
import sys
from ratewise.schedulers.events import Event
from ratewise.schedulers.listeners import JSONLWriter
write = JSONLWriter(sys.argv[1])
for step in range(10**9):
    write(Event(step, 0.5, 0.5, 0.5, 0, 0, "increase", (0.1,) * 40, (0.2,) * 40))
"""


def test_a_killed_process_leaves_whole_events_and_the_next_goes_on(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 10_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=900)
    with path.open("ab") as file:
        file.write(b'{"step": 5, "met')  # a kill hits the middle of a line once in a blue moon
    with JSONLWriter(path) as writer:
        writer(Event(-1, 0.5, 0.5, 0.5, 0, 0, "increase", (0.1,), (0.2,)))
    found = [row["step"] for row in rows(path)]
    assert found == [*range(len(found) - 1), -1]
    assert len(found) > 10


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("missing/events.jsonl", InvalidArgument, "in a folder that exists.*make the folder first"),
        (".", InvalidArgument, "path must be a file, got"),
        (3, WrongType, "path must be a path, got int"),
        ("diary.txt", InvalidArgument, "path must be a file of events.*choose another file"),
    ],
)
def test_a_path_that_cannot_be_is_named(path: Any, error: type, words: str, tmp_path: Path):
    diary = tmp_path / "diary.txt"
    diary.write_text("Dear diary,\nthe loss fell")
    with pytest.raises(error, match=words):
        JSONLWriter(tmp_path / path if isinstance(path, str) else path)
    assert diary.read_text() == "Dear diary,\nthe loss fell"


def test_a_closed_writer_says_so_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with JSONLWriter(tmp_path / "events.jsonl") as writer:
        pass
    writer.close()
    scheduler = trained(writer)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "failed, and is not told of further changes" in record.message
    assert "must be open, got a closed one" in str(record.exc_info[1])
    assert len(scheduler.events) > 1
    with pytest.raises(InvalidArgument, match="must be open"):
        writer(scheduler.events[0])


# -- TensorBoard --------------------------------------------------------------------------------


def test_tensorboard_s_own_file_holds_rates_losses_and_reasons(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="ratewise[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        events = trained(TensorBoardWriter(writer)).events
    found = EventAccumulator(str(tmp_path), {"tensors": 0, "scalars": 0}).Reload()
    assert set(found.Tags()["scalars"]) == {"ratewise/lr/0", "ratewise/lr/1", "ratewise/smoothed"}
    for group in (0, 1):
        curve = [(point.step, point.value) for point in found.Scalars(f"ratewise/lr/{group}")]
        assert [step for step, _ in curve[1::2]] == steps(events)
        assert [step for step, _ in curve[::2]] == [step - 1 for step in steps(events)]
        values = [rates[group] for event in events for rates in (event.old_lr, event.new_lr)]
        assert [value for _, value in curve] == pytest.approx(values)
    smoothed = [point.value for point in found.Scalars("ratewise/smoothed")]
    assert smoothed == pytest.approx([event.smoothed for event in events])
    texts = found.Tensors("ratewise/why/text_summary")
    words = [text.tensor_proto.string_val[0].decode() for text in texts]
    assert words == [event.words() for event in events]


class Recorder:
    """Whatever has the two methods will do."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, int]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.calls.append((tag, value, step))

    add_text = add_scalar


def test_a_rollback_has_no_smoothed_loss_to_draw():
    recorder = Recorder()
    scheduler = trained(TensorBoardWriter(recorder), losses=[1.0, 1.0])
    scheduler.rescale(0.5, reason="rollback")
    assert [tag for tag, _, _ in recorder.calls].count("ratewise/smoothed") == 0
    assert recorder.calls[-1][0] == "ratewise/why"
    assert recorder.calls[-2] == ("ratewise/lr/1", 0.01, 2)


def test_a_copied_scheduler_tells_the_same_listeners(tmp_path: Path):
    with JSONLWriter(tmp_path / "events.jsonl") as writer:
        recorder = Recorder()
        scheduler = copy.deepcopy(trained(writer, TensorBoardWriter(recorder), losses=[]))
        for loss in metrics(60):
            scheduler.step(loss)
        assert [row["step"] for row in rows(writer.path)] == steps(scheduler.events)
        assert recorder.calls


@pytest.mark.parametrize("writer", [None, "runs", object()])
def test_what_is_no_writer_is_named(writer: Any):
    with pytest.raises(WrongType, match=r"pass torch\.utils\.tensorboard\.SummaryWriter"):
        TensorBoardWriter(writer)


def test_the_module_loads_no_tensorboard():
    code = "import ratewise.schedulers.listeners, sys; print('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.stdout == "False\n", done.stderr


# -- logging, and a device ----------------------------------------------------------------------


def test_python_s_logging_hears_each_event_in_words(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="ratewise"):
        trained()
    assert caplog.messages == []
    with caplog.at_level(logging.INFO, logger="ratewise"):
        events = trained().events
    assert caplog.messages == [event.words() for event in events]
    assert len(events) > 3


def test_on_tensors_listeners_hear_at_a_flush_in_order_and_once():
    heard: list[Event] = []
    scheduler = trained(heard.append, tensor=True)
    assert heard == [], "nothing was read from the device"
    scheduler.flush()
    assert heard == trained().events
    scheduler.flush()
    assert len(heard) == len(scheduler.events)


def test_on_tensors_listeners_hear_every_hundred_steps():
    heard: list[Event] = []
    scheduler = trained(heard.append, losses=[], tensor=True)
    lengths = []
    for loss in metrics(3 * SYNC_EVERY):
        scheduler.step(torch.tensor(loss, dtype=torch.float64))
        lengths.append(len(heard))
    grew = [step for step in range(1, len(lengths)) if lengths[step] > lengths[step - 1]]
    assert len(grew) >= 2
    assert all(late - early == SYNC_EVERY for early, late in itertools.pairwise(grew))
    assert heard == trained(losses=metrics(3 * SYNC_EVERY)).events[: len(heard)]
    assert len(heard) > 10


def test_on_tensors_the_file_is_the_same(tmp_path: Path):
    texts = []
    for tensor in (False, True):
        path = tmp_path / f"{tensor}.jsonl"
        with JSONLWriter(path) as writer:
            trained(writer, tensor=tensor).flush()
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    assert os.path.getsize(path) > 500
