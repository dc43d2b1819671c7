"""Event files that TensorBoard's own writer wrote, whole and cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="tensorboard is not installed")
from torch.utils.tensorboard import SummaryWriter

from ratewise.curves import read
from ratewise.errors import CorruptData


def write(folder: Path, first: int = 1, last: int = 20, add: float = 0.0) -> Path:
    with SummaryWriter(str(folder)) as writer:
        for step in range(first, last + 1):
            writer.add_scalar("train/loss", 4.0 / step + add, step)
            writer.add_scalar("train/lr", 0.1, step)
            if step % 5 == 0:
                writer.add_scalar("eval/loss", 5.0 / step, step)
        writer.add_text("notes", "text", 1)
        writer.add_histogram("weights", np.arange(9.0), 1)
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def test_a_folder_of_runs(tmp_path: Path):
    for name in ("a", "deep/b"):
        write(tmp_path / name)
    found = read(tmp_path)
    assert [curve.name for curve in found.curves] == ["a", "deep/b"]
    for curve in found.curves:
        assert curve.train_loss.step.tolist() == list(range(1, 21))
        assert curve.train_loss.value == pytest.approx(4.0 / np.arange(1, 21))  # of float32
        assert curve.held_out_loss.step.tolist() == [5, 10, 15, 20]
        assert curve.lr.value == pytest.approx(0.1)
        assert curve.left_out == ()


def test_a_run_that_was_gone_on_with_is_one_run(tmp_path: Path):
    (tmp_path / "run").mkdir()
    first, second = write(tmp_path / "1", 1, 20), write(tmp_path / "2", 11, 30, add=1.0)
    first.rename(tmp_path / "run" / "events.out.tfevents.1.host")
    second.rename(tmp_path / "run" / "events.out.tfevents.2.host")
    (curve,) = read(tmp_path).curves
    assert curve.train_loss.step.tolist() == list(range(1, 31))
    assert curve.train_loss.value[10] == pytest.approx(4.0 / 11 + 1.0)
    assert "train_loss: 10 points after step 10, where the run was resumed" in curve.left_out


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_what_a_crash_left_of_a_file_is_read(tmp_path: Path, cut: int):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[: -600 - cut])
    (curve,) = read(path).curves
    steps = curve.train_loss.step.tolist()
    assert 3 < len(steps) <= 20
    assert steps == list(range(1, len(steps) + 1))


def test_what_is_no_event_file_is_refused(tmp_path: Path):
    path = tmp_path / "events.out.tfevents.1.host"
    for data in (b"", b"no events" * 99):
        path.write_bytes(data)
        with pytest.raises(CorruptData, match="has no scalar"):
            read(path)
