"""Work spread over processes; each prepares once, uses one thread, and ends with its parent."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from typing import Any, Generic, TypeVar

import torch

from ratewise.errors import CannotWrite, RunFailed, invalid
from ratewise.progress import tracked

Held = TypeVar("Held")
Item = TypeVar("Item")
#: Returns what a worker holds while it works, e.g. loaded data and an open store.
Prepare = Callable[..., contextlib.AbstractContextManager[Held]]
#: Makes one item and stores it: ``work(held, item)``.
Work = Callable[[Held, Item], object]
#: How many processes an item may end before it is given up.
TRIES = 2


def in_this_process(
    work: Work[Held, Item], items: Iterable[Item], held: Held, *, name: Callable[[Item], str]
) -> Iterator[str | None]:
    """Yield None or an error message for each item; see `in_processes`."""
    for item in items:
        wrong = _tried(work, held, item)
        yield wrong and f"{name(item)}: {wrong}"


def in_processes(
    work: Work[Held, Item],
    items: Sequence[Item],
    *,
    jobs: int,
    prepare: Prepare[Held],
    arguments: tuple[Any, ...] = (),
    name: Callable[[Item], str],
) -> Iterator[str | None]:
    """Yield, for each item as it finishes, None or an error message; order is not kept.

    Whoever works also stores: a kill of anything, parent or worker, at any moment, then loses
    only the items in flight. A worker that dies is replaced, and its item is begun once more;
    an item whose process ends again has failed. The other items do not notice.

    Args:
        work: a function at the top of a module.
        items: what can be sent to a process.
        jobs: processes.
        prepare: called once in each with `arguments`; what it returns is entered, given to
            `work`, and left at the end.
        arguments: of `prepare`.
        name: what an error calls an item.

    Raises:
        InvalidArgument: something cannot be sent to a process.
        CannotWrite: from an item: the others would find no room either. No other is begun.
        RunFailed: processes end before they are prepared.
        Exception: from `prepare`.
    """
    try:
        pickle.dumps((work, prepare, arguments, list(items)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        fix = f"the task cannot be sent to another process ({error}): define its functions at the"
        raise invalid(
            "jobs", "1 for this task", jobs, fix + " top of a module, or pass 1"
        ) from error
    waiting = deque((item, 1) for item in items)
    begun: dict[Future[str | None], tuple[_Worker[Held], Item, int]] = {}
    with _workers(min(jobs, len(items)), prepare, arguments) as idle:
        while waiting or begun:
            while idle and waiting:
                worker, (item, number) = idle.pop(), waiting.popleft()
                begun[worker.submit(work, item)] = worker, item, number
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                worker, item, number = begun.pop(future)
                idle.append(worker)
                try:
                    wrong = worker.result(future)
                except BrokenProcessPool:
                    prepared = worker.replace()
                    if number < TRIES:
                        waiting.appendleft((item, number + 1))
                        continue
                    if not prepared:
                        raise RunFailed(_NOT_BEGUN) from None
                    wrong = f"its process ended {TRIES} times: killed, crashed or out of memory"
                yield wrong and f"{name(item)}: {wrong}"


_NOT_BEGUN = (
    f"{TRIES} processes ended before they began to work: a script that asks for several needs "
    'its calls below `if __name__ == "__main__":`; or pass jobs=1'
)


def drain(
    done: Iterable[str | None], total: int, label: str, *, show: bool, what: str = "runs"
) -> None:
    """Wait for all items; each yields None or an error message.

    Args:
        done: the items as they finish.
        total: how many there will be.
        label: what a progress bar calls them.
        show: whether there is one.
        what: what the error calls them.

    Raises:
        RunFailed: some went wrong; the message names the first ones. All have been waited for.
    """
    failures = [failure for failure in tracked(done, total, label, show=show) if failure]
    if failures:
        shown = "\n".join(f"  {failure}" for failure in failures[:5])
        raise RunFailed(f"{len(failures)} of {total} {what} failed, the others are kept:\n{shown}")


@contextlib.contextmanager
def _workers(
    count: int, prepare: Prepare[Held], arguments: tuple[Any, ...]
) -> Iterator[list[_Worker[Held]]]:
    """Start processes, and end them with the block: at once if it raises, as on Ctrl-C."""
    workers: list[_Worker[Held]] = []
    at_once = True
    try:
        for _ in range(count):
            workers.append(_Worker(prepare, arguments))
        yield list(workers)
        at_once = False
    finally:
        with ThreadPoolExecutor() as ending:  # side by side: one takes a while to end
            list(ending.map(lambda worker: worker.end(at_once=at_once), workers))


class _Worker(Generic[Held]):
    """One worker process, replaced if it dies; each is a pool of its own.

    A pool breaks as a whole: in one of several processes nobody could say which item ended it.
    """

    def __init__(self, prepare: Prepare[Held], arguments: tuple[Any, ...]) -> None:
        self._how = prepare, arguments
        self._start()

    def _start(self) -> None:
        heard, self._line = get_context("spawn").Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(heard, os.getpid(), *self._how),
        )
        with _uninterrupted():
            self._prepared = self._pool.submit(_prepared)
        heard.close()

    def submit(self, work: Work[Held, Item], item: Item) -> Future[str | None]:
        """Start work on an item."""
        try:
            return self._pool.submit(_work, work, item)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.replace()
            return self._pool.submit(_work, work, item)

    def result(self, future: Future[str | None]) -> str | None:
        """Return an item's error message or None; raise if the process or `prepare` failed."""
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


_entered: list[Any] = []
_failed: list[Exception] = []


def _begin(
    line: Connection, parent: int, prepare: Prepare[Any], arguments: tuple[Any, ...]
) -> None:
    """Prepare a worker: one thread, what it holds, and an end when the parent wants it."""
    threading.Thread(target=_watch, args=(line, parent), daemon=True).start()
    torch.set_num_threads(1)
    stack = contextlib.ExitStack()
    try:
        _entered[:] = [stack.enter_context(prepare(*arguments))]
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


def _work(work: Work[Any, Item], item: Item) -> str | None:
    return _tried(work, _entered[0], item) if _entered else None  # the parent knows why


def _tried(work: Work[Held, Item], held: Held, item: Item) -> str | None:
    """Work on one item; return an error message, or None."""
    try:
        work(held, item)
    except CannotWrite:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
