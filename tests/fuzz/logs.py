"""Logs of past trainings and plans, damaged and made to do harm: a named error, or sound curves."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Fault

from ratewise.curves import Curve, read
from ratewise.curves.importing import import_logs
from ratewise.curves.stored import from_record, to_record
from ratewise.errors import MissingExtra, RatewiseError
from ratewise.rules import plan
from ratewise.runs import Store

Make = Callable[[np.random.Generator], bytes]
_STEPS = 12
#: What a value in JSON, or a cell of a table, is replaced by.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**63, 2**53, 10**400, -(10**400), 1e308, 5e-324, math.nan, math.inf,
    -math.inf, "", "x", "nan", "1e999", "-inf", "1_0", "\u0661", "\ud800", "\x1b[31m", "a\nb",
    "=1+1", "\r", [], [[]], [1], {}, {"x": 1}, {"loss": {"loss": 1}}, "run - train_loss", "../../x",
)  # fmt: skip


def case(rng: np.random.Generator, folder: Path) -> str:
    """Damage a log of one kind and read it, by itself or in a folder."""
    name = list(KINDS)[int(rng.integers(len(KINDS)))]
    whole = KINDS[name](rng)
    way = rng.random()
    untouched = way < 0.05
    if untouched:
        content = whole
    elif way < 0.5 and name.endswith(("json", "jsonl")):
        content = _mutated(rng, name, whole)
    elif way < 0.5 and name.endswith(".csv"):
        content = _cells(rng, whole)
    else:
        content = damaged(rng, whole)
    there = folder / "logs"
    there.mkdir()
    if name == "set-runs.csv":
        (there / "set-curves.csv").write_bytes(_curves(rng))
    elif name.startswith("set-curves"):
        (there / "set-runs.csv").write_bytes(_runs(rng))
    (there / name).write_bytes(content)
    if name == "plan.json":
        return _plan(there / name, untouched)
    by_folder, stored = name.startswith("set-") or rng.random() < 0.3, rng.random() < 0.2
    return try_log(there / name, untouched, by_folder=by_folder, stored=stored)


def try_log(
    path: Path, untouched: bool = False, *, by_folder: bool = False, stored: bool = True
) -> str:
    """Read a log, put it into a store and take it out again; raise where a promise is broken."""
    asked = path.parent if by_folder else path
    try:
        found = read(asked)
    except MissingExtra:
        return "not installed"
    except RatewiseError as error:
        if untouched:
            raise Fault(f"{path.name}, undamaged, was refused: {error}") from error
        return _refused(error)
    for name, why in found.skipped:
        if not why.isprintable():
            raise Fault(f"{name!r} is skipped for a reason that is no line: {why!r}")
    for curve in found.curves:
        _check(curve)
        if repr(from_record(to_record(curve)).series) != repr(curve.series):
            raise Fault(f"{curve.name!r} is another once it was stored")
    if not stored:
        return "held"
    out = path.parent.parent / "store"
    done = import_logs(asked, out)
    again = [from_record(record) for record in Store(out).load()]
    if len(again) != len(done.curves):
        raise Fault(f"{len(done.curves)} runs were added, {len(again)} are there")
    if not all(line.isprintable() for line in done.summary.splitlines()):
        raise Fault(f"a summary with characters that a terminal obeys: {done.summary!r}")
    return "held"


def _refused(error: RatewiseError) -> str:
    if not str(error).isprintable() or len(str(error)) > 1000:
        raise Fault(f"an error that is no line: {str(error)!r}") from error
    return f"refused {type(error).__name__}"


def _check(curve: Curve) -> None:
    for name, series in curve.series.items():
        rises = not len(series) or (series.step[0] >= 0 and (np.diff(series.step) > 0).all())
        if not (rises and np.isfinite(series.value).all()):
            raise Fault(f"{name} of {curve.name!r} is not sound")
    if len(curve.lr) and curve.steps:
        curve.rates(min(curve.steps, 100))


def _plan(path: Path, untouched: bool) -> str:
    try:
        found = plan.read(path)
    except RatewiseError as error:
        if untouched:
            raise Fault(f"a plan, undamaged, was refused: {error}") from error
        return _refused(error)
    rates = [found.rate(step) for step in (1, found.total_steps)]
    if not all(0 <= rate < math.inf for rate in rates):
        raise Fault(f"a plan has the rates {rates}")
    return "held"


# -- what the files are damaged from -----------------------------------------------------------


def _rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    loss = 4.0 * rng.random()
    return [
        {"step": step, "lr": 0.1 / step, "train_loss": loss / step, "val_loss": 1.1 * loss / step}
        for step in range(1, _STEPS)
    ]


def _csv(rng: np.random.Generator, separator: str = "") -> bytes:
    rows = _rows(rng)
    prefix = {name: f"run{separator}{name}" if separator else name for name in rows[0]}
    header = ["step" if name == "step" else prefix[name] for name in rows[0]]
    lines = [",".join(header), *(",".join(map(str, row.values())) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def _trainer(rng: np.random.Generator) -> bytes:
    history: list[dict[str, Any]] = []
    for row in _rows(rng):
        own = {"step": row["step"], "epoch": row["step"] / _STEPS}
        history += [
            {**own, "loss": row["train_loss"], "learning_rate": row["lr"], "grad_norm": 1.0},
            {**own, "eval_loss": row["val_loss"]},
        ]
    about = {"max_steps": _STEPS, "epoch": 1.0, "train_batch_size": 8}
    return json.dumps({**about, "log_history": history}).encode()


def _columns(rng: np.random.Generator) -> bytes:
    rows = _rows(rng)
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()


def _events(rng: np.random.Generator) -> bytes:
    lines = [
        {"step": row["step"], "metric": row["train_loss"], "smoothed": 1.0, "reference": None}
        | {"good": 0, "bad": 0, "reason": "increase", "old_lr": [row["lr"]], "new_lr": [0.1]}
        for row in _rows(rng)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _lines(rng: np.random.Generator) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _rows(rng)).encode()


def _parquet(rng: np.random.Generator) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "log.parquet"
        kind = str(rng.choice(["DOUBLE", "DECIMAL(18, 9)", "VARCHAR", "FLOAT"]))
        values = ", ".join(str(tuple(row.values())) for row in _rows(rng))
        connection.execute(
            f"COPY (SELECT step, lr::{kind} AS lr, train_loss::{kind} AS train_loss, [val_loss] "
            f"AS val_loss FROM (VALUES {values}) t(step, lr, train_loss, val_loss)) TO '{path}'"
        )
        return path.read_bytes()


def _tensorboard(rng: np.random.Generator) -> bytes:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return b"not installed"
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()), SummaryWriter(folder) as writer:
            for row in _rows(rng):
                for name in ("train_loss", "lr", "val_loss"):
                    writer.add_scalar(name, row[name], row["step"])
        return next(Path(folder).iterdir()).read_bytes()


def _runs(rng: np.random.Generator) -> bytes:
    header = "run,schedule,peak_lr,steps,first_iter,warmup,cooldown,shape,sequences,group"
    constant, late = "a,constant,0.1,5000,1,4,,,512,g", "b,wsd,0.1,4000,3000,4,0.2,linear,512,g"
    return "\n".join([header, constant, late, ""]).encode()


def _curves(rng: np.random.Generator) -> bytes:
    rows = [f"a,{i},0.1,{4 / i},{4 / i}" for i in range(1, 5000, 500)]
    rows += [f"b,{i},0.05,{4 / i},{4 / i}" for i in range(3000, 4000, 200)]
    return "\n".join(["run,iter,lr,train_loss,val_loss", *rows, ""]).encode()


def _made_plan(rng: np.random.Generator) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        plan.write(path, plan.from_rates(rng.random(_STEPS), provenance={"law": "functional"}))
        return path.read_bytes()


#: By file name, what makes one.
KINDS: dict[str, Make] = {
    "metrics.csv": _csv,
    "wandb.csv": lambda rng: _csv(rng, " - "),
    "trainer_state.json": _trainer,
    "history.json": lambda rng: json.dumps(_rows(rng)).encode(),
    "columns.json": _columns,
    "events.jsonl": _events,
    "log.jsonl": _lines,
    "log.parquet": _parquet,
    "events.out.tfevents.1.host": _tensorboard,
    "set-runs.csv": _runs,
    "set-curves.csv": _curves,
    "set-curves.csv.gz": lambda rng: gzip.compress(_curves(rng), mtime=0),
    "plan.json": _made_plan,
}


def _mutated(rng: np.random.Generator, name: str, whole: bytes) -> bytes:
    """Replace, rename or remove a few values of a JSON text."""
    lines = name.endswith("jsonl")
    value = [json.loads(x) for x in whole.splitlines()] if lines else json.loads(whole)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        within, key = places[int(rng.integers(len(places)))]
        odd = ODD[int(rng.integers(len(ODD)))]
        if rng.random() < 0.2 and isinstance(within, dict) and isinstance(odd, str):
            within[odd] = within.pop(key)
        elif rng.random() < 0.2 and len(places) > 1:
            del within[key]
        else:
            within[key] = odd
    if lines:
        return "".join(json.dumps(line) + "\n" for line in value).encode()
    return json.dumps(value).encode()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _cells(rng: np.random.Generator, whole: bytes) -> bytes:
    """Replace a few cells of a table, those of its header among them."""
    rows = [line.split(",") for line in whole.decode().splitlines()]
    for _ in range(int(rng.integers(1, 5))):
        row = rows[0 if rng.random() < 0.3 else int(rng.integers(len(rows)))]
        odd = ODD[int(rng.integers(len(ODD)))]
        row[int(rng.integers(len(row)))] = str(odd)
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


def _set(folder: Path, runs: bytes, curves: bytes) -> None:
    """Read a pair of tables, which must be read or refused by name."""
    (folder / "logs").mkdir()
    (folder / "logs" / "set-runs.csv").write_bytes(runs)
    (folder / "logs" / "set-curves.csv").write_bytes(curves)
    try_log(folder / "logs" / "set-runs.csv", by_folder=True)


def _carriage_return(folder: Path) -> None:
    rng = np.random.default_rng(0)
    _set(folder, _runs(rng), _curves(rng).replace(b"0.1", b"0\r1", 1))


def _endless_counts(folder: Path) -> None:
    rng = np.random.default_rng(0)
    _set(folder, _runs(rng).replace(b"5000,1,4,,,512", b"1e999,1,4,,,nan"), _curves(rng))


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "a carriage return within a cell of published curves": _carriage_return,
    "steps and sequences without end in published runs": _endless_counts,
}
