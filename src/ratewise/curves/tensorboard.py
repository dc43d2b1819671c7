"""TensorBoard's event files: scalars by tag; what a crash has left of a file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ratewise.curves.columns import choose
from ratewise.curves.log import Log
from ratewise.curves.tables import MOST_BYTES
from ratewise.errors import CorruptData, extra_named
from ratewise.files import contents

#: How the names of event files begin.
BEGINNING = "events.out.tfevents."
_STEP = "step"  # what `choose` needs to find; each scalar has its own


def read_events(
    paths: Sequence[Path], name: str, wanted: Mapping[str, str] | None = None
) -> list[Log]:
    """Return the log of one run's event files.

    Several files of one folder are one run that was gone on with, in the order of their names.

    Args:
        paths: the files, in order.
        name: of the run.
        wanted: which tag is which, where the user says it.

    Raises:
        MissingExtra: tensorboard is not installed.
        CorruptData: no file has a scalar that is a loss.
    """
    scalars: dict[str, list[tuple[float, float]]] = {}
    said = []
    for path in paths:
        contents.check_regular(path)
        if path.stat().st_size > MOST_BYTES:
            raise contents.too_large(path, "is larger", MOST_BYTES)
        cut = _collect(path, scalars)
        if cut:
            said.append(f"the end of {path.name}, which is {cut}")
    if not scalars:
        raise CorruptData(f"{paths[0]} has no scalar{'; '.join(['', *said])}")
    chosen = choose([_STEP, *scalars], wanted, name)
    log = Log(name, left_out=said)
    for kind, tag in chosen.items():
        for step, value in scalars.get(tag, ()):
            log.add(kind, step, value)
    log.points.pop("step", None)
    return [log]


def _collect(path: Path, scalars: dict[str, list[tuple[float, float]]]) -> str:
    """Take in a file's scalars, and say what is wrong with its end, if anything is."""
    with extra_named("reading event files", "tensorboard"):
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util
    if not path.stat().st_size:
        return "empty"
    try:
        for event in EventFileLoader(str(path)).Load():
            for one in event.summary.value:
                value = _scalar(one, tensor_util)
                if value is not None:
                    scalars.setdefault(one.tag, []).append((float(event.step), value))
    except Exception as error:  # its loader and protobuf have no common base
        return f"damaged ({contents.shown(error, 80)})"
    return ""


def _scalar(one: Any, tensor_util: Any) -> float | None:
    """Return the number of a summary's value, or None where it is something else."""
    if one.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    if one.HasField("simple_value"):
        return float(one.simple_value)
    if not one.HasField("tensor"):
        return None
    array = np.asarray(tensor_util.make_ndarray(one.tensor))
    return float(array.item()) if array.size == 1 and array.dtype.kind in "fiu" else None
