"""What a scheduler does about rates that somebody else sets: it looks, and says so once."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim import Optimizer

from ratewise.errors import OverwrittenRateWarning
from ratewise.schedulers.overwritten import find


class Watched:
    """The part of a scheduler that watches its rates; abstract, mixed into `ReactiveLR`."""

    optimizer: Optimizer
    last_epoch: int
    _rates: Any
    _device: Any
    _overwritten = False  # it was said

    def _groups(self) -> list[dict[str, Any]]:
        """Return the scheduled parameter groups."""
        raise NotImplementedError

    def _look(self) -> None:
        """See whether the last change is still in the rates; on the host alone."""
        self._rates.look(self._groups())
        self._tell_overwritten()

    def _look_back(self) -> None:
        """Do the same for the last steps on a device, which is waited for."""
        if self._device is not None:
            self._rates.look_back()
            self._tell_overwritten(late=True)

    def _tell_overwritten(self, late: bool = False) -> None:
        if self._overwritten:
            return
        found = find(self._rates.watches, self.optimizer, self, late=late)
        if found is not None:
            self._overwritten = True
            words = f"step {self.last_epoch}: {found}"
            warnings.warn(words, OverwrittenRateWarning, stacklevel=5)
