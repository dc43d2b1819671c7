"""Sets of published curves that lie in more than one file: a table of runs, a table of curves.

The table of runs has a row a run ("run", "schedule", "peak_lr", "steps", "first_iter", ...), the
table of curves a row a point ("run", "iter", "lr", "train_loss", "val_loss"), gzipped or not.
"""

from __future__ import annotations

from pathlib import Path

from ratewise.curves.curve import Facts
from ratewise.curves.log import Log, count, from_rows, number
from ratewise.curves.tables import cells_of
from ratewise.errors import CorruptData
from ratewise.files import contents

_RUNS = {"run", "schedule", "peak_lr", "steps"}
_POINTS = {"run", "iter"}
#: A run whose first point lies later went on from another's checkpoint.
_LATE = 1000


def tables(folder: Path) -> list[tuple[Path, Path]]:
    """Return the pairs of tables in a folder: NAME-runs.csv and NAME-curves.csv or .csv.gz."""
    found = []
    for runs in sorted(folder.glob("*-runs.csv")):
        start = runs.name.removesuffix("runs.csv")
        for end in ("curves.csv", "curves.csv.gz"):
            if (curves := folder / (start + end)).exists():
                found.append((runs, curves))
    return found


def read_tables(runs: Path, curves: Path) -> list[Log]:
    """Return the logs of a pair of tables, in the order of the runs.

    A wsd run that begins late bears the constant run of the same peak rate as its parent.

    Raises:
        CorruptData: one of the tables is damaged, or lacks a column.
    """
    about = {row["run"]: row for row in _rows(runs, contents.decoded(runs), _RUNS)}
    packed = curves.suffix == ".gz"
    text = contents.unpacked(curves).decode("utf-8", "replace") if packed else None
    points: dict[str, list[dict[str, str]]] = {}
    for row in _rows(curves, contents.decoded(curves) if text is None else text, _POINTS):
        points.setdefault(row["run"], []).append(row)
    trunks = _trunks(about)
    logs = []
    for run, row in about.items():
        if run not in points:
            continue
        facts = _facts(row, trunks, runs.name.removesuffix("-runs.csv"))
        columns = {"step": "iter", "lr": "lr", "train_loss": "train_loss"}
        there = {kind: name for kind, name in columns.items() if name in points[run][0]}
        log = from_rows(run, points[run][0], points[run], there, facts)
        _warmup(log, row)
        logs.append(log)
    return logs


def _rows(path: Path, text: str, needed: set[str]) -> list[dict[str, str]]:
    header, *rows = cells_of(path, text)
    if not needed <= set(header):
        raise CorruptData(f"{path} needs the columns {', '.join(sorted(needed))}")
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def _trunks(about: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return peak rate -> the longest constant run, from whose checkpoints others went on."""
    constant = [row for row in about.values() if row["schedule"] == "constant"]
    longest = sorted(constant, key=lambda row: (number(row["steps"]) or 0, row.get("group", "")))
    return {row["peak_lr"]: row["run"] for row in longest}


def _facts(row: dict[str, str], trunks: dict[str, str], task: str) -> Facts:
    late = (number(row.get("first_iter")) or 0) > _LATE
    words = [row["schedule"], row.get("cooldown", ""), row.get("shape", "")]
    return Facts(
        task=task,
        schedule=" ".join(word for word in words if word),
        batch_size=count(row.get("sequences")),
        total_steps=count(row["steps"]),
        parent=trunks.get(row["peak_lr"], "") if late and row["schedule"] == "wsd" else "",
    )


def _warmup(log: Log, row: dict[str, str]) -> None:
    """Put in the ends of a linear warmup, which the table of runs states."""
    warmup, peak = number(row.get("warmup")), number(row["peak_lr"])
    steps, values = log.points.get("lr", ([], []))
    if not warmup or not peak or not steps or steps[0] >= warmup:
        return
    rates = dict(zip(steps, values, strict=True))
    if abs(rates.get(warmup, peak) - peak) < 1e-3 * peak:
        every = {0.0: 0.0, warmup: peak, **rates}
        log.points["lr"] = sorted(every), [every[step] for step in sorted(every)]
