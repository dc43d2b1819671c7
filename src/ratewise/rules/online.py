r"""Hypergradient descent on the ratio, free of scales: the next gradient judges the last step.

With :math:`D_{t-1}` the whole displacement of the step before, all tensors together, and
:math:`g_t` the gradient at its end,

.. math:: c \leftarrow \mathrm{clip}\Bigl(c + \eta \,
          \frac{-\langle g_t, D_{t-1} \rangle}{\|g_t\| \, \|D_{t-1}\|}, \pm c_{\max}\Bigr),

and every tensor's ratio is multiplied by :math:`e^c`. A gradient that still points along the last
step says that it was too short, one that points back that it was too long.

Baydin et al. 2018 (arXiv 1703.04782) move the rate by the product, which has a scale; the cosine
has none. The training loss is what is followed: where the same rows come back often, the ratio
that it asks for is too large for rows that are held out (docs/evidence/update-ratio.md). Under
momentum without Adam's denominator the weights swing, and the cosine is negative at any ratio.
"""

from __future__ import annotations

import math
from typing import Any

#: Of the cosine, what is added to c in a step.
GAIN = 0.1
#: Steps before the first correction: until then the ratios are still on their way.
FIRST = 20
#: One step in so many is judged, and counts for all of them.
EVERY = 1
#: The largest |c|.
MOST = math.log(8.0)


def looks(steps: int, every: int = 1) -> bool:
    """Return whether the step after so many is judged: from `FIRST` on, one in `every`.

    >>> [looks(steps, every=5) for steps in (19, 20, 21, 25)]
    [False, True, False, True]
    """
    return steps >= FIRST and steps % every == 0


def corrected(correction: Any, cosine: Any, *, every: int = 1, xp: Any) -> Any:
    """Return c after a step that was judged; a cosine that is not finite changes nothing.

    Args:
        correction: c, of any shape.
        cosine: between -g and the last displacement, of the same shape.
        every: steps that this one stands for.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.

    >>> import numpy as np
    >>> float(corrected(np.asarray(0.0), np.asarray(0.5), xp=np))
    0.05
    >>> float(corrected(np.asarray(2.0), np.asarray(1.0), xp=np)) == MOST
    True
    """
    usable = xp.isfinite(cosine)
    new = correction + GAIN * every * xp.where(usable, cosine, 0.0)
    new = xp.where(new > MOST, MOST, new)
    return xp.where(new < -MOST, -MOST, new)
