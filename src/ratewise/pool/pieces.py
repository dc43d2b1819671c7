"""Which items go to a worker next: how many at once, again after a loss, twice when one is late.

Bookkeeping alone: the time is passed in, and nothing is sent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

#: How often an item is begun before it is given up: a lost one is begun again at most twice.
TRIES = 3
#: A piece of work takes about so long, so that sending it does not count.
SECONDS = 1.0
#: An item is late once its piece has taken so many times what pieces of its size take ...
LATE = 3.0
#: ... and no less than so many seconds.
LATE_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Piece:
    """Items that are sent to a worker together."""

    numbers: tuple[int, ...]
    since: float  #: when it was begun, in seconds


class Pieces:
    """The items of one call of `Workers.each`, each of them to be done once.

    Args:
        count: how many items there are.
        workers: how many may work at once.
        most: items in a piece; 1 sends each alone.
        copies: whether what is late is begun once more beside it: elsewhere it may be quicker.
        place: the number of an item's place, or None if any worker will do.
    """

    def __init__(
        self,
        count: int,
        workers: int,
        *,
        most: int = 1_000,
        copies: bool = True,
        place: Callable[[int], int] | None = None,
    ) -> None:
        self._waiting = deque(range(count))
        self._left = set(range(count))
        self._workers = workers
        self._most = 1 if place else most
        self._place = place
        # What stays with a worker has none either: another one would first have to catch up.
        self._copies = copies and place is None
        # An item that was lost goes alone: of a piece nobody knows which item ended its worker.
        self._losses: Counter[int] = Counter()
        self._open: set[Piece] = set()
        self._took = self._made = 0.0

    @property
    def over(self) -> bool:
        """Whether every item is done or given up."""
        return not self._left

    def next(self, now: float, worker: int = 0, workers: int = 1) -> Piece | None:
        """Return what a worker that waits is to do, or None if there is nothing for it.

        Args:
            now: in seconds, of any clock.
            worker: its rank among those that can work, from 0.
            workers: how many those are.
        """
        numbers = self._taken(worker, workers) if self._waiting else self._late(now)
        if not numbers:
            return None
        piece = Piece(tuple(numbers), now)
        self._open.add(piece)
        return piece

    def _taken(self, worker: int, workers: int) -> list[int]:
        if self._place is not None:
            mine = (n for n in self._waiting if self._place(n) % workers == worker)
            found = next(mine, None)
            if found is None:
                return []
            self._waiting.remove(found)
            return [found]
        taken = [self._waiting.popleft()]
        size = 1 if taken[0] in self._losses else self._size()
        while len(taken) < size and self._waiting and self._waiting[0] not in self._losses:
            taken.append(self._waiting.popleft())
        return taken

    def _size(self) -> int:
        """Return how many make about a second's work, and leave half of the rest to the others."""
        if self._made == 0:
            return 1
        enough = round(SECONDS * self._made / max(self._took, 1e-9))
        return max(1, min(enough, self._most, (len(self._waiting) + 1) // (2 * self._workers)))

    def _late(self, now: float) -> list[int]:
        """Return the items of a piece that holds up the end, to be made once more beside it."""
        if self._made == 0 or not self._copies:
            return []
        each = self._took / self._made
        for piece in sorted(self._open, key=lambda piece: piece.since):
            limit = max(LATE_SECONDS, LATE * each * len(piece.numbers))
            left = [number for number in piece.numbers if number in self._left]
            twice = any(
                number in other.numbers for other in self._open - {piece} for number in left
            )
            if left and not twice and now - piece.since > limit:
                return left
        return []

    def done(self, piece: Piece, seconds: float) -> list[int]:
        """Return which of its items are done for the first time; the others are to be forgotten.

        Args:
            piece: one that has come back.
            seconds: that its worker took.
        """
        self._open.discard(piece)
        self._took += seconds
        self._made += len(piece.numbers)
        first = [number for number in piece.numbers if number in self._left]
        self._left -= set(first)
        return first

    def lost(self, piece: Piece) -> list[int]:
        """Begin the items of a piece again whose worker is gone; return those that are given up."""
        self._open.discard(piece)
        self._losses.update(piece.numbers)
        elsewhere = {number for other in self._open for number in other.numbers}
        left = [n for n in piece.numbers if n in self._left and n not in elsewhere]
        given_up = [number for number in left if self._losses[number] >= TRIES]
        self._left -= set(given_up)
        self._waiting.extendleft(n for n in reversed(left) if n in self._left)
        return given_up
