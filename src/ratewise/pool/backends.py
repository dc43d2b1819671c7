"""The one way in: workers on the backend that was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ratewise.pool import processes
from ratewise.pool.where import Where
from ratewise.pool.work import Done, Item, Ready, Work, Workers


@contextlib.contextmanager
def workers(work: Work[Item], where: Where, most: int) -> Iterator[Workers]:
    """Prepare workers, and end them with the block: at once if it raises, as on Ctrl-C.

    Args:
        work: what they do.
        where: on which backend, and how many.
        most: no more than so many will be needed.

    Raises:
        InvalidArgument: the work cannot be sent there, or the cluster has not so many workers.
        MissingExtra: Ray is not installed.
        Unreachable: the address does not answer, or the cluster has no room left.
        VersionsDiffer: a node of the cluster has other versions.
        RunFailed: workers end before they are prepared.
        Exception: from `work.held` or `work.keep`.
    """
    opened: AbstractContextManager[Workers]
    if most == 0:
        opened = _nobody()
    elif where.name == "ray":
        from ratewise.pool import on_ray  # the one file that imports ray

        opened = on_ray.workers(work, where, most)
    elif where.name == "processes" and min(where.jobs or 1, most) > 1:
        opened = processes.workers(work, min(where.jobs or 1, most))
    else:
        opened = _here(work)
    with opened as found:
        yield found


@contextlib.contextmanager
def _nobody() -> Iterator[Workers]:
    yield _Here(None)


@contextlib.contextmanager
def _here(work: Work[Item]) -> Iterator[Workers]:
    with contextlib.ExitStack() as stack:
        yield _Here(Ready(work, stack))


def here(work: Work[Item]) -> Workers:
    """Return this process as the worker of a work that leaves nothing to close."""
    return _Here(Ready(work, contextlib.ExitStack()))


class _Here:
    """This process; or nobody, where there is nothing to do."""

    def __init__(self, ready: Ready[Any] | None) -> None:
        self._ready = ready

    def each(self, items: Sequence[Any]) -> Iterator[Done]:
        if self._ready is not None:
            for number, item in enumerate(items):
                yield Done(number, *self._ready.tried(item))

    def places(self) -> str:
        return ""
