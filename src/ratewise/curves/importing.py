"""Logs into the store of runs, a few at a time, with an account of what was read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ratewise.curves.curve import Curve
from ratewise.curves.rates import with_schedule
from ratewise.curves.read import read
from ratewise.curves.stored import to_record
from ratewise.files.contents import shown
from ratewise.runs import Store

#: Runs that are written together: many small files are slow, one large one takes memory.
_TOGETHER = 32
_LINES = 20  # of each kind, in a summary


class Named(NamedTuple):
    """A schedule that the user names for runs whose logs have no rates."""

    schedule: str
    peak_lr: float
    total_steps: int | None = None
    warmup_steps: int = 0
    final_share: float = 0.0
    cooldown: float | None = None

    def applied(self, curve: Curve) -> Curve:
        """Return the curve with the schedule's rates, where it has none of its own."""
        if len(curve.lr):
            return curve
        options: dict[str, Any] = {
            "total_steps": self.total_steps or 0,
            "warmup_steps": self.warmup_steps,
            "final_share": self.final_share,
            "cooldown": self.cooldown,
        }
        return with_schedule(curve, self.schedule, self.peak_lr, **options)


class Imported(NamedTuple):
    """What came of an import."""

    curves: list[Curve]  #: that were added
    there: int  #: runs that the store had already
    skipped: list[tuple[str, str]]
    summary: str


def import_logs(
    logs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
    schedule: Named | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Imported:
    """Read logs into a store; a run that is there already is not written again.

    Args:
        logs: file or folder, as `ratewise.curves.read` takes it.
        out: folder of the store.
        columns, parents: as in `ratewise.curves.read`.
        schedule: of the runs without rates.
        facts: what the user knows of all runs; fields of `Facts`.

    Raises:
        InvalidArgument, CorruptData, MissingExtra: as `ratewise.curves.read`.
        StoreError: `out` is no store and cannot become one.
    """
    found = read(logs, columns=columns, parents=parents)
    curves = [curve.with_facts(**(facts or {})) for curve in found.curves]
    if schedule is not None:
        curves = [schedule.applied(curve) for curve in curves]
    with Store(Path(out)) as store:
        before = store.run_ids()
        added = []
        for part in _parts(curves, _TOGETHER):
            new = {}
            for curve in part:
                record = to_record(curve)
                if record.run_id not in before:
                    new[record.run_id] = record
                    before.add(record.run_id)
                    added.append(curve)
            if new:
                store.add_all(new.values())
    there = len(curves) - len(added)
    return Imported(added, there, found.skipped, _summary(added, there, found.skipped, out))


def _parts(curves: Sequence[Curve], size: int) -> Iterator[list[Curve]]:
    rest = iter(curves)
    while part := list(itertools.islice(rest, size)):
        yield part


def _summary(
    added: Sequence[Curve], there: int, skipped: Sequence[tuple[str, str]], out: object
) -> str:
    """Return what was read in lines: counts, runs without rates, what was left out."""
    points = sum(len(series) for curve in added for series in curve.series.values())
    lines = [f"{len(added)} runs with {points:,} points were added to {out}"]
    if there:
        lines.append(f"{there} runs were there already")
    bare = [curve.name for curve in added if not len(curve.lr)]
    if bare:
        fix = "no law can be fitted to them; name their schedule with --schedule and --peak-lr"
        lines.append(f"{len(bare)} runs have no rates ({_some(bare)}): {fix}")
    gone = [curve.name for curve in added if curve.diverged_at is not None]
    if gone:
        lines.append(f"{len(gone)} runs diverged ({_some(gone)})")
    said = [f"  {curve.name}: {what}" for curve in added for what in curve.left_out]
    lines += [f"left out ({len(said)}):", *_first(said)] if said else []
    words = [f"  {shown(name)}: {shown(why)}" for name, why in skipped]
    lines += [f"not read ({len(words)}):", *_first(words)] if words else []
    return "\n".join(lines)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _LINES
    return lines[:_LINES] + ([f"  and {more} more"] if more > 0 else [])
