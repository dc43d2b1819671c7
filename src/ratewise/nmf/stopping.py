"""The stopping rule of a fit: how much the loss still falls from pass to pass over the data."""

from __future__ import annotations

import math


class Stopping:
    """Decides, from the losses of passes, when to stop.

    A pass counts as idle if the best loss so far fell by no more than `tol` of itself.

    Args:
        tol: relative, >= 0; 0 never stops, unless the fit is exact.
        patience: idle passes in a row after which a fit ends.
        floor: a loss up to there is as good as 0.

    >>> watch = Stopping(tol=0.1, patience=2, floor=0.0)
    >>> [watch.ends(loss) for loss in (8.0, 4.0, 3.9, 3.8)]
    [False, False, False, True]
    """

    def __init__(self, tol: float, patience: int, floor: float) -> None:
        self._tol, self._patience, self._floor = tol, patience, floor
        self._best = math.inf
        self._idle = 0

    def ends(self, loss: float) -> bool:
        """Record the loss of a pass, and return whether to stop."""
        if loss <= self._floor:
            return True
        idle = not loss < self._best * (1.0 - self._tol)
        self._idle = self._idle + 1 if idle else 0
        self._best = min(self._best, loss)
        return self._tol > 0.0 and self._idle >= self._patience
