"""What is to be done, whoever does it: how an item is made, what that needs, and who keeps it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ratewise.errors import CannotWrite, InvalidArgument, MissingData, RunFailed, invalid
from ratewise.progress import tracked

Item = TypeVar("Item")
#: Whatever comes of an item.
Made = Any
Keep = Callable[[Sequence[Made]], object]
#: No item's own failure: the others would meet the same. Nothing else is begun.
FOR_ALL = (CannotWrite, MissingData)


@dataclass(frozen=True)
class Work(Generic[Item]):
    """What is done with each item; for other processes its functions are those of a module.

    Args:
        make: ``make(held, item)`` returns what comes of an item. It depends on nothing else, and
            may be called again, elsewhere, for the same item.
        held: opens what `make` needs, once in each worker: loaded data, for one.
        keep: opens what stores a list of what was made. In processes whoever makes also stores,
            so that a kill of anything loses only what is in flight; on Ray, whose workers may
            see other disks, results come back and are stored in batches. None stores nothing.
        name: what an error calls an item.
        place: a number for an item whose worker should be that of the items with the same number,
            since it holds what is left of them; None for any worker.
    """

    make: Callable[[Any, Item], Made]
    held: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    keep: Callable[[], AbstractContextManager[Keep]] | None = None
    name: Callable[[Item], str] = str
    place: Callable[[Item], int] | None = None


class Done(NamedTuple):
    """An item that is over."""

    number: int  #: of the item, from 0
    made: Made = None  #: where it was not kept
    wrong: str = ""  #: the item's name, and why it failed


class Workers(Protocol):
    """Those who work, prepared and waiting for items."""

    def each(self, items: Sequence[Any]) -> Iterator[Done]:
        """Yield every item as it is over; the order is not kept."""

    def places(self) -> str:
        """Return how many work where, for people; empty where there is nothing to say."""


class Ready(Generic[Item]):
    """A work whose needs are open.

    Args:
        work: what is done.
        stack: closes what is opened.
    """

    def __init__(self, work: Work[Item], stack: contextlib.ExitStack) -> None:
        self._work = work
        self._held = stack.enter_context(work.held())
        self._keep = stack.enter_context(work.keep()) if work.keep else None

    def tried(self, item: Item) -> tuple[Made, str]:
        """Make one item, and keep it; return what is to be handed on, and what went wrong."""
        try:
            made = self._work.make(self._held, item)
            if self._keep is None:
                return made, ""
            self._keep([made])
        except FOR_ALL:
            raise
        except Exception as error:
            return None, f"{self._work.name(item)}: {type(error).__name__}: {error}"
        return None, ""


def unsendable(count: int | None, error: Exception) -> InvalidArgument:
    """Return the error for a work that cannot be sent to other processes."""
    fix = f"the task cannot be sent to another process ({error}): define its functions at the"
    return invalid("jobs", "1 for this task", count, fix + " top of a module, or pass 1")


def use_threads(count: int) -> None:
    """Let torch use so many threads in this process, whether it is imported yet or not."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def drain(
    done: Iterator[Done],
    total: int,
    label: str | Callable[[], str],
    *,
    show: bool,
    what: str = "runs",
) -> None:
    """Wait for all items.

    Args:
        done: the items as they end.
        total: how many there will be.
        label: what a progress bar calls them.
        show: whether there is one.
        what: what the error calls them.

    Raises:
        RunFailed: some went wrong; the message names the first ones. All have been waited for.
    """
    ended = tracked(done, total, label, show=show)
    failures = [one.wrong for one in ended if one.wrong]
    if failures:
        shown = "\n".join(f"  {failure}" for failure in failures[:5])
        raise RunFailed(f"{len(failures)} of {total} {what} failed, the others are kept:\n{shown}")
