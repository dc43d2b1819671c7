"""CSV and Parquet, by Lightning, Weights & Biases and anybody; whole, cut short, and damaged."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ratewise.curves import read
from ratewise.errors import CorruptData, InvalidArgument, UnknownName

CSV = "iter,rate,train/loss,val_loss,junk\n1,0.1,3.0,,x\n2,0.2,2.5,2.75,y\n3,0.1,2.25,,z\n"
COLUMNS = {"lr": "rate"}


def written(folder: Path, text: str, name: str = "run.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_lightnings_csv_logger(tmp_path: Path):
    loggers = pytest.importorskip("lightning.pytorch.loggers", reason="lightning is not installed")
    logger = loggers.CSVLogger(str(tmp_path), name="mine")
    for step in range(4):
        logger.log_metrics({"train_loss_step": 3.0 - step, "lr-AdamW": 0.1 / (step + 1)}, step)
    logger.log_metrics({"val_loss": 1.5, "epoch": 0}, 3)
    logger.save()
    (curve,) = read(tmp_path).curves
    assert curve.name == "mine/version_0"
    assert curve.train_loss.value.tolist() == [3.0, 2.0, 1.0, 0.0]
    assert curve.lr.value[:2].tolist() == [0.1, 0.05]
    assert (curve.held_out_loss.step.tolist(), curve.held_out_loss.value.tolist()) == ([3], [1.5])
    assert curve.left_out == ()


def test_named_columns(tmp_path: Path):
    (curve,) = read(written(tmp_path, CSV), columns=COLUMNS).curves
    assert (curve.name, curve.steps) == ("run", 3)
    assert curve.lr.value.tolist() == [0.1, 0.2, 0.1]
    assert curve.train_loss.value.tolist() == [3.0, 2.5, 2.25]
    assert curve.held_out_loss.step.tolist() == [2]
    with pytest.raises(UnknownName, match="unknown column of run 'rat': did you mean 'rate'"):
        read(tmp_path / "run.csv", columns={"lr": "rat"})
    with pytest.raises(UnknownName, match="unknown kind of column 'rate'"):
        read(tmp_path / "run.csv", columns={"rate": "lr"})


def test_parquet_with_named_columns(tmp_path: Path):
    source, path = written(tmp_path, CSV), tmp_path / "it's.parquet"
    quoted = str(path).replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{source}') TO '{quoted}' (FORMAT parquet)")
    (curve,) = read(path, columns=COLUMNS).curves
    (same,) = read(source, columns=COLUMNS).curves
    for name, series in curve.series.items():
        assert [x.tolist() for x in series] == [x.tolist() for x in same.series[name]]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptData, match="is no Parquet file"):
        read(path, columns=COLUMNS)


def test_a_chart_of_weights_and_biases_has_a_column_a_run(tmp_path: Path):
    text = (
        '"Step","fast - train/loss","fast - train/loss__MIN","slow - train/loss","slow - lr"\n'
        '"1","3.0","3.0","",""\n"2","2.0","2.0","2.5","0.1"\n'
    )
    fast, slow = read(written(tmp_path, text, "chart.csv")).curves
    assert (fast.name, slow.name) == ("chart/fast", "chart/slow")
    assert fast.train_loss.value.tolist() == [3.0, 2.0]
    assert (slow.train_loss.step.tolist(), slow.lr.value.tolist()) == ([2], [0.1])


@pytest.mark.parametrize("cut", [1, 4, 8, 10])
def test_a_last_line_that_is_half_written_is_left_out(tmp_path: Path, cut: int):
    text = "step,lr,loss\n10,0.1,3.125\n20,0.1,2.625\n30,0.1,2.125\n"
    (curve,) = read(written(tmp_path, text[:-cut])).curves
    whole = cut == 1  # only the end of the line is missing
    assert curve.train_loss.value.tolist() == [3.125, 2.625] + [2.125] * whole
    assert curve.left_out == (() if whole else ("the last line, half-written",))


def test_cells_that_are_no_numbers_are_counted(tmp_path: Path):
    text = "step,lr,loss\n1,0.1,3\nx,0.1,2\n3,0.1,n/a\n4,0.1,1\n5\n"
    (curve,) = read(written(tmp_path, text)).curves
    assert curve.train_loss.step.tolist() == [1, 4]
    assert curve.left_out == (
        "1 lines with another number of cells than the header",
        "3 cells that are no numbers, or have no step",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("step,loss\n", "has no loss at any step"),
        ("loss,lr\n1,2\n", "has no column of steps"),
        ("step,step\n1,2\n", "some of one name"),
        ("step,loss\n1,nan\n", r"has no loss at any step \(train_loss: 1 not finite"),
        ("step,loss\n1,\0\n", "bytes 0"),
    ],
)
def test_what_is_no_log_is_named(tmp_path: Path, text: str, words: str):
    with pytest.raises(CorruptData, match=words):
        read(written(tmp_path, text))


@pytest.mark.parametrize("name", ["perplexity", "val/ppl", "bpb", "bits_per_byte"])
def test_a_loss_in_another_unit_is_named_and_not_taken_for_one(tmp_path: Path, name: str):
    with pytest.raises(InvalidArgument, match=f"another unit than nats .{name}.*ln 2 times"):
        read(written(tmp_path, f"step,lr,{name}\n1,0.1,20\n"))


def test_a_file_that_is_none_and_one_of_another_kind_are_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="a file or a folder that exists"):
        read(tmp_path / "absent")
    with pytest.raises(InvalidArgument, match="no log of a training was found"):
        read(tmp_path)
    with pytest.raises(InvalidArgument, match=r"logs must be a log, got 'notes.txt'"):
        read(written(tmp_path, "text", "notes.txt"))


def test_in_a_folder_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path):
    written(tmp_path, "a,b\n1,2\n", "bad.csv")
    written(tmp_path, "text", "notes.txt")
    written(tmp_path, "step,loss\n1,2\n", "good.csv")
    found = read(tmp_path)
    assert [curve.name for curve in found.curves] == ["good"]
    assert [name for name, _ in found.skipped] == ["bad"]
