"""Whether a rate still contains what a scheduler multiplied it by, or somebody else sets it.

Rates are written as ``own * outside`` (`ratewise.schedulers.rates`), which respects what others
*multiply* them by. Whoever *sets* a rate, as a training loop with a schedule of its own does,
undoes the scheduler's part at each step. A single step can look like either; three in a row
seldom do.
"""

from __future__ import annotations

import gc
import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

#: So many times running a change must be missing.
TIMES = 3
#: Logarithms closer than that are equal: a rate in float32 is rounded.
ROUNDING = 1e-6
#: One explanation must fit so many times better than the other.
CLEAR = 10.0


class RateWatch:
    r"""One group's rate from one look to the next: pure arithmetic on three numbers.

    A scheduler found :math:`a` and wrote :math:`b`; at the next step :math:`c` is there. Those who
    multiply leave :math:`\ln c/a = \ln b/a + u`, those who set the rate :math:`\ln c/a = u`, with u
    what they do in a step as far as it is known: what they did in the last one.

    Args:
        rate: what is there now.

    >>> watch = RateWatch(0.1)
    >>> for _ in range(3):
    ...     watch.note(0.1, 0.05)  # we halve it
    ...     watch.look(0.1)  # somebody sets it again
    >>> watch.lost, watch.missing
    (3, (0.05, 0.1))
    """

    __slots__ = ("_found", "_ours", "_usual", "_wrote", "lost", "missing", "strange")

    def __init__(self, rate: float) -> None:
        self._found = self._wrote = rate
        self._usual = self._ours = 0.0
        #: Consecutive steps at which our change was missing; and at which it was, or might have
        #: been, since the others' part changed, too.
        self.lost: float = 0
        self.strange: float = 0
        #: What was written and what was found instead, the last time that was so.
        self.missing = rate, rate

    @property
    def calm(self) -> bool:
        """Whether the next look changes nothing if it finds what was written last."""
        own = self._found == self._wrote
        return own and self._usual == self._ours == self.lost == 0 and self.strange <= 0

    def note(self, found: float, wrote: float) -> None:
        """Take in what a step found and what it wrote."""
        self._found, self._wrote = found, wrote

    def look(self, now: float) -> None:
        """Compare what is there now with what was written."""
        found, wrote = self._found, self._wrote
        self._found = self._wrote = now
        if now == wrote:  # nobody else was here
            self._usual = self._ours = 0.0
            if found != wrote:
                self.lost, self.strange = 0, min(self.strange, 0)
            return
        if not (0.0 < found < math.inf and 0.0 < wrote < math.inf and 0.0 < now < math.inf):
            return
        ours, all_in_all = math.log(wrote / found), math.log(now / found)
        theirs, before = all_in_all - ours, self._ours
        self._ours = ours
        if abs(ours) <= ROUNDING:
            self._usual = all_in_all
            return
        if_set, if_multiplied = abs(all_in_all - self._usual), abs(theirs - self._usual)
        if if_multiplied <= max(ROUNDING, if_set / CLEAR):
            self.lost, self.strange = 0, min(self.strange, 0)
            self._usual = theirs
            return
        self.missing = wrote, now
        self.strange += 1
        # The same change twice leaves the same: only a new one, or none at all, tells anything.
        tells = now == found or abs(ours - before) > abs(ours) / CLEAR
        clear = tells and if_set <= max(ROUNDING, if_multiplied / CLEAR)
        self.lost = self.lost + 1 if clear else 0
        self._usual = all_in_all if clear else theirs


def overwriting(
    watches: list[RateWatch], optimizer: Optimizer, scheduler: object, *, late: bool = False
) -> str | None:
    """Return a warning's text where somebody else sets the rates, or None.

    Where the others' part is another one at each step, as under a warmup, a rate that is set and
    one that is multiplied look the same. Then it counts as set by the training loop, unless
    there is somebody who might multiply it: another scheduler, or an optimizer that moves its own
    rate, as torch's do not.

    Args:
        watches: one a group.
        optimizer: whose rates they are.
        scheduler: which watches them.
        late: this is about steps long past, and whoever multiplied then may be gone: only what is
            clear counts.
    """
    for index, watch in enumerate(watches):
        if watch.lost < TIMES and (late or watch.strange < TIMES):
            continue
        others = others_on(optimizer, scheduler)
        if watch.lost >= TIMES or (
            not others and type(optimizer).__module__.startswith("torch.optim.")
        ):
            wrote, there = watch.missing
            who = " and ".join(others) or "a line such as param_group['lr'] = lr in the loop"
            return (
                f"somebody else sets the learning rate, and {type(scheduler).__name__} does "
                f"nothing: it wrote {wrote:.6g} into parameter group {index}, and found "
                f"{there:.6g} at its next step, {TIMES} times running. Remove what sets it "
                f"({who}), or this scheduler; what multiplies the rate may stay"
            )
        watch.strange = -math.inf  # from now on only what is clear counts
    return None


def others_on(optimizer: Optimizer, scheduler: object) -> list[str]:
    """Return the kinds of the other schedulers that are alive on this optimizer.

    Neither torch nor the optimizer keeps a list of them. It takes as long as a garbage collection,
    and is asked for once or twice in a run, when there is something to say.
    """
    return sorted(
        type(one).__name__
        for one in gc.get_objects()
        if issubclass(type(one), LRScheduler)
        and one is not scheduler
        and getattr(one, "optimizer", None) is optimizer
        and not hasattr(one, "_schedulers")  # a composition writes nothing itself
    )
