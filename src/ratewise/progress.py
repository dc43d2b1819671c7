"""Progress of long work: a bar with the time left on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

T = TypeVar("T")
_QUIET_SECONDS = 5.0
_LINE_SECONDS = 30.0


def tracked(
    items: Iterable[T], total: int, label: str | Callable[[], str], *, show: bool = True
) -> Iterator[T]:
    """Yield the items, and show the progress once 5 seconds have passed.

    Args:
        items: what is waited for.
        total: how many there will be.
        label: what they are; a function is asked again with every item.
        show: False shows nothing.
    """
    if not show or total == 0:
        yield from items
        return
    if isinstance(label, str):
        label = partial(str, label)
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):  # it comes with an extra
        yield from _bar(items, total, label)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said > (_LINE_SECONDS if said > start else _QUIET_SECONDS):
            said = now
            left = (now - start) / done * (total - done)
            print(
                f"{label()}: {done}/{total}, about {_clock(left)} left", file=sys.stderr, flush=True
            )


def _bar(items: Iterable[T], total: int, label: Callable[[], str]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label(), total=total)
        for item in items:
            yield item
            progress.update(task, advance=1, description=label())


def _clock(seconds: float) -> str:
    """Return seconds as minutes and seconds.

    >>> _clock(75)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
