"""Processes of this machine; each prepares once, uses one thread, and ends with its parent."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from ratewise.errors import RunFailed
from ratewise.pool.pieces import TRIES, Piece, Pieces
from ratewise.pool.work import Done, Item, Made, Ready, Work, Workers, unsendable, use_threads

_NOT_BEGUN = (
    f"{TRIES} processes ended before they began to work: a script that asks for several needs "
    'its calls below `if __name__ == "__main__":`; or pass jobs=1'
)


@contextlib.contextmanager
def workers(work: Work[Item], count: int) -> Iterator[Workers]:
    """Start processes, and end them with the block: at once if it raises, as on Ctrl-C.

    Args:
        work: what each is prepared for.
        count: how many.

    Raises:
        InvalidArgument: the work cannot be sent to a process.
    """
    _check_can_be_sent(work, count)
    found: list[_Worker] = []
    at_once = True
    try:
        for _ in range(count):
            found.append(_Worker(work))
        yield _Processes(work, found)
        at_once = False
    finally:
        with ThreadPoolExecutor() as ending:  # side by side: one takes a while to end
            list(ending.map(lambda worker: worker.end(at_once=at_once), found))


def _check_can_be_sent(what: object, count: int) -> None:
    try:
        pickle.dumps(what)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise unsendable(count, error) from error


class _Processes:
    """Whoever works also stores; a worker that dies is replaced, and its item begun again."""

    def __init__(self, work: Work[Any], found: list[_Worker]) -> None:
        self._work, self._workers = work, found

    def each(self, items: Sequence[Item]) -> Iterator[Done]:
        """Yield every item as it is over.

        Raises:
            RunFailed: processes end before they are prepared.
            Exception: from `Work.held` or `Work.keep`, and what is no item's own failure.
        """
        count = len(self._workers)
        _check_can_be_sent(list(items), count)
        place = self._work.place
        number_of = place and (lambda number: place(items[number]))
        pieces = Pieces(len(items), count, most=1, copies=False, place=number_of)
        begun: dict[Future[tuple[Made, str]], tuple[_Worker, Piece]] = {}
        idle = set(range(count))
        while not pieces.over:
            for rank in sorted(idle):
                if piece := pieces.next(time.monotonic(), rank, count):
                    worker = self._workers[rank]
                    begun[worker.submit(items[piece.numbers[0]])] = worker, piece
                    idle.discard(rank)
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                worker, piece = begun.pop(future)
                idle.add(self._workers.index(worker))
                try:
                    made = worker.result(future)
                except BrokenProcessPool:
                    prepared = worker.replace()
                    for number in pieces.lost(piece):
                        if not prepared:
                            raise RunFailed(_NOT_BEGUN) from None
                        wrong = f"its process ended {TRIES} times: killed, crashed or out of memory"
                        yield Done(number, None, f"{self._work.name(items[number])}: {wrong}")
                    continue
                for number in pieces.done(piece, 0.0):
                    yield Done(number, *made)

    def places(self) -> str:
        """Return how many there are."""
        return f" in {len(self._workers)} processes"


class _Worker:
    """One worker process, replaced if it dies; each is a pool of its own.

    A pool breaks as a whole: in one of several processes nobody could say which item ended it.
    """

    def __init__(self, work: Work[Any]) -> None:
        self._work = work
        self._start()

    def _start(self) -> None:
        heard, self._line = get_context("spawn").Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(heard, os.getpid(), self._work),
        )
        with _uninterrupted():
            self._prepared = self._pool.submit(_prepared)
        heard.close()

    def submit(self, item: object) -> Future[tuple[Made, str]]:
        """Start work on an item."""
        try:
            return self._pool.submit(_tried, item)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.replace()
            return self._pool.submit(_tried, item)

    def result(self, future: Future[tuple[Made, str]]) -> tuple[Made, str]:
        """Return what came of an item; raise if the process or its preparation failed."""
        self._prepared.result()
        return future.result()

    def replace(self) -> bool:
        """Start another process; return whether the one that died had been prepared."""
        prepared = self._prepared.exception() is None
        self.end(at_once=True)
        self._start()
        return prepared

    def end(self, *, at_once: bool) -> None:
        """End the process: at once, or when it has finished its work."""
        if at_once:
            self._line.close()
        self._pool.shutdown(cancel_futures=True)
        self._line.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that ignore Ctrl-C on a terminal: their parent decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ready: list[Ready[Any]] = []
_failed: list[Exception] = []


def _begin(line: Connection, parent: int, work: Work[Any]) -> None:
    """Prepare a worker: one thread, what it holds, and an end when the parent wants it."""
    threading.Thread(target=_watch, args=(line, parent), daemon=True).start()
    use_threads(1)
    stack = contextlib.ExitStack()
    try:
        _ready[:] = [Ready(work, stack)]
    except Exception as error:  # an initializer's own would reach nobody by its name
        _failed[:] = [error]
    atexit.register(stack.close)  # before the interpreter goes: DuckDB's bindings complain else


def _watch(line: Connection, parent: int) -> None:
    """End this process when its parent closes the connection, or is gone."""
    while os.getppid() == parent and not line.poll(0.5):
        pass
    os._exit(1)


def _prepared() -> None:
    """Raise the error that occurred during preparation, if any."""
    if _failed:
        raise _failed[0]


def _tried(item: object) -> tuple[Made, str]:
    return _ready[0].tried(item) if _ready else (None, "")  # the parent knows why
