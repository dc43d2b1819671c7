"""Listeners that write events as they happen: to a file of JSON lines, to TensorBoard."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, Any

from ratewise.errors import InvalidArgument, invalid, wrong_type
from ratewise.schedulers.events import Event, as_json

#: How every line that we write begins.
_BEGINNING = b'{"step": '


class JSONLWriter:
    """Appends each event to a file as one line of JSON, at once.

    ``scheduler.add_listener(JSONLWriter("events.jsonl"))``. A line is flushed before the next
    event, so that it is there after a kill of the process. If a kill left an incomplete last line,
    the next writer ends it where the event is whole, and removes it otherwise, so that every line
    parses. A run that goes on from a checkpoint appends: the steps between the checkpoint
    and the kill are then in the file twice. Processes that train together need a file each, or
    one of them the listener.

    Args:
        path: file to append to; made if it does not exist, in a folder that does.

    Raises:
        WrongType: `path` is not a path.
        InvalidArgument: its folder does not exist, it is a folder itself, or a file with a last
            line of something else.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "events.jsonl"
    >>> with JSONLWriter(path) as write:
    ...     write(Event(7, 0.5, 0.6, math.nan, 3, 0, "increase", (0.01,), (0.02,)))
    >>> print(path.read_text()[:62])
    {"step": 7, "metric": 0.5, "smoothed": 0.6, "reference": null,
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise wrong_type("path", "a path", path, "pass e.g. 'events.jsonl'")
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        if self.path.is_dir():
            raise invalid("path", "a file", str(path), "add a file's name, e.g. events.jsonl")
        if not self.path.parent.is_dir():
            raise invalid("path", "in a folder that exists", str(path), "make the folder first")
        file = self.path.open("a+b")
        try:
            _mend(file, self.path)
        except BaseException:
            file.close()
            raise
        self._file = file

    def __call__(self, event: Event) -> None:
        """Append an event.

        Raises:
            InvalidArgument: the writer is closed.
        """
        if self._file is None:
            raise InvalidArgument(
                f"the writer to {self.path} must be open, got a closed one: keep it open as long "
                "as the scheduler steps, or add a new one"
            )
        self._file.write(as_json(event).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; a scheduler that still has this listener must not step any more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __deepcopy__(self, memo: dict[int, Any]) -> JSONLWriter:
        """A copied scheduler writes to the same file."""
        return self

    def __enter__(self) -> JSONLWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _mend(file: IO[bytes], path: Path) -> None:
    """Make an end of line the file's last byte."""
    size = file.seek(0, os.SEEK_END)
    tail = b""
    while b"\n" not in tail and len(tail) < size:
        begin = max(0, size - len(tail) - 65536)
        file.seek(begin)
        tail = file.read(size - begin)
    rest = tail.rpartition(b"\n")[2]
    if not rest:
        return
    if not rest.startswith(_BEGINNING[: len(rest)]):
        fix = "choose another file, or end its last line"
        raise invalid("path", "a file of events", str(path), fix)
    try:
        whole = set(json.loads(rest)) == set(Event._fields)
    except ValueError:
        whole = False
    if whole:
        file.write(b"\n")
        file.flush()
    else:
        file.truncate(size - len(rest))


class TensorBoardWriter:
    """Draws the rates, the smoothed loss and the reasons in TensorBoard.

    ``scheduler.add_listener(TensorBoardWriter(SummaryWriter("runs/1")))``, with
    `torch.utils.tensorboard.SummaryWriter` from the extra ``ratewise[tensorboard]``, or anything
    with its `add_scalar` and `add_text`. At the step t of an event there are the scalars
    ``ratewise/lr/0``, ``ratewise/lr/1``, ... (one a scheduled group: the old rate at t - 1, the
    new one at t, so that the curve has a step there and no slope), ``ratewise/smoothed``, and
    the text ``ratewise/why``, of which TensorBoard shows ten unless it is started with
    ``--samples_per_plugin=text=0``. Steps are the schedule's. The writer is the caller's to close.

    Args:
        writer: where to write.

    Raises:
        WrongType: `writer` has no such methods.
    """

    def __init__(self, writer: Any) -> None:
        if not all(callable(getattr(writer, name, None)) for name in ("add_scalar", "add_text")):
            fix = "pass torch.utils.tensorboard.SummaryWriter(folder)"
            raise wrong_type("writer", "a SummaryWriter", writer, fix)
        self.writer = writer

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorBoardWriter:
        """A copied scheduler writes to the same place."""
        return self

    def __call__(self, event: Event) -> None:
        """Write an event."""
        for group, (old, new) in enumerate(zip(event.old_lr, event.new_lr, strict=True)):
            self.writer.add_scalar(f"ratewise/lr/{group}", old, event.step - 1)
            self.writer.add_scalar(f"ratewise/lr/{group}", new, event.step)
        if math.isfinite(event.smoothed):  # a rollback has none
            self.writer.add_scalar("ratewise/smoothed", event.smoothed, event.step)
        self.writer.add_text("ratewise/why", event.words(), event.step)
