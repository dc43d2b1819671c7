"""Torch's optimizers whose step is proportional to the learning rate."""

from __future__ import annotations

from torch import optim

#: Elementwise, linear in lr, with a state that does not depend on lr: a step at another rate is
#: the same step scaled. Averaged SGD (lr in its average), Rprop (step sizes of its own), Adafactor
#: (steps relative to a norm) and Muon (orthogonal matrices) are not of that kind; a subclass may
#: do anything, so it is not on the list.
RATE_PROPORTIONAL: tuple[type[optim.Optimizer], ...] = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adagrad,
    optim.RMSprop,
    optim.NAdam,
    optim.RAdam,
    optim.Adamax,
    optim.Adadelta,
)
