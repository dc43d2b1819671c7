"""Work spread over processes that each prepare once, use one thread, and end with their parent."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from ratewise.errors import RunFailed, invalid
from ratewise.progress import tracked

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Returns what a worker holds while it works, e.g. loaded data and an open store.
Prepare = Callable[..., contextlib.AbstractContextManager[Any]]


def in_processes(
    work: Callable[[Any, Item], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    prepare: Prepare,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield ``work(held, item)`` of every item, as they finish; order is not kept.

    Whoever works also stores: a kill of anything, parent or worker, at any moment, then loses
    only the items in flight.

    Args:
        work: a function at the top of a module.
        items: what can be sent to a process.
        jobs: processes.
        prepare: called once in each with `arguments`; what it returns is entered, given to
            `work`, and left at the end.
        arguments: of `prepare`.

    Raises:
        InvalidArgument: something cannot be sent to a process.
    """
    try:
        pickle.dumps((work, prepare, arguments, list(items)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        fix = f"the task cannot be sent to another process ({error}): define its functions at the"
        raise invalid(
            "jobs", "1 for this task", jobs, fix + " top of a module, or pass 1"
        ) from error
    with ProcessPoolExecutor(
        min(jobs, len(items)),
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(prepare, arguments, os.getpid()),
    ) as pool:
        futures = [pool.submit(_work, work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:  # Ctrl-C too: what is finished is stored, the rest is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def drain(
    done: Iterable[str | None], total: int, label: str, *, show: bool, what: str = "runs"
) -> None:
    """Wait for items that each end with None, or with what went wrong.

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


_entered: list[Any] = []


def _begin(prepare: Prepare, arguments: tuple[Any, ...], parent: int) -> None:
    """Prepare a worker: one thread, what it holds, and an end when the parent ends."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    stack = contextlib.ExitStack()
    _entered[:] = [stack.enter_context(prepare(*arguments))]
    atexit.register(stack.close)  # before the interpreter goes: DuckDB's bindings complain else


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(work: Callable[[Any, Item], Result], item: Item) -> Result:
    if not _entered:
        raise RuntimeError("a worker was not prepared")
    return work(_entered[0], item)
