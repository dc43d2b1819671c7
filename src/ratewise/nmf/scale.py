r"""Data of any magnitude: what is factorised is X times a power of two, W and H are scaled back.

Solvers multiply numbers of the size of X with each other, and what is below 1e-154 or above 1e154
has no square in float64; in float32 the range is 1e-19 to 1e19. A power of two takes no digit,

.. math:: X' = 2^{-e} X, \quad W' = 2^{-a} W, \quad H' = 2^{-b} H, \quad e = a + b: \qquad
          X - W H = 2^e (X' - W' H'),

so the factorisation is the same one, with a penalty's weights times 2^(a - 2 e) and 2^(b - 2 e)
for sums of W and H, and 2^(2 a - 2 e), 2^(2 b - 2 e) for squares. Data of usual size stay as they
are; of others a copy is made.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.nmf.arrays import namespace
from ratewise.nmf.rows import cut, shared

#: Data whose largest entry is within 2^-least and 2^least are of usual size, by bytes of a float;
#: 2^most and its reciprocal are still floats with all their digits.
_USUAL, _MOST = {4: 32, 8: 256}, {4: 120, 8: 960}
#: A penalty's weight beyond that leaves nothing of what it is on.
_HEAVIEST = 2.0**96


class Scale(NamedTuple):
    """Exponents of two, of the data and of both factors: data = codes + parts."""

    data: int = 0
    codes: int = 0
    parts: int = 0

    def weight(self, value: float, sums: int, squares: int = 0) -> float:
        """Return a penalty's weight for what is scaled.

        Args:
            value: for what is not.
            sums: the exponent of the factor, where the weight is one of its sum;
            squares: where it is one of its squares.
        """
        if value == 0.0:
            return 0.0
        exponent = sums + 2 * squares - 2 * self.data
        try:
            return min(math.ldexp(value, exponent), max(value, _HEAVIEST))
        except OverflowError:
            return _HEAVIEST


def of_data(x: Any) -> Scale:
    """Return the scale of data, array, CSR matrix or tensor: half of it is each factor's."""
    exponent = _exponent(x)
    exponent -= exponent % 2
    return Scale(exponent, exponent // 2, exponent // 2)


def of_both(x: Any, parts: Any) -> Scale:
    """Return the scale of data and components, [k, m], that are given: the rest is the codes'."""
    data, own = _exponent(x), _exponent(parts)
    return Scale(data, data - own, own)


def times(x: Any, exponent: int) -> Any:
    """Return 2^exponent x, of the same kind and type; x itself for an exponent of 0.

    >>> times(np.float32([3.0, 0.0]), 200).tolist(), times(np.float32([3.0]), -2).tolist()
    ([inf, 0.0], [0.75])
    """
    if x is None or exponent == 0:
        return x
    if sp.issparse(x):
        return shared(type(x), (times(x.data, exponent), x.indices, x.indptr), x.shape)
    first = exponent // 2
    with np.errstate(over="ignore"):
        return (
            x * 2.0**exponent if abs(exponent) < 120 else x * 2.0**first * 2.0 ** (exponent - first)
        )


def norm(x: Any) -> float:
    """Return |X|, of any magnitude.

    >>> norm(np.full((1, 4), 1e-200)), norm(np.full((1, 4), 1e200))
    (2e-200, 2e+200)
    """
    exponent = of_data(x).data
    square = sum(rows.square for rows in cut(times(x, -exponent), 4096))
    return math.ldexp(math.sqrt(square), exponent)


def _exponent(x: Any) -> int:
    """Return the exponent of the largest entry, 0 where that is of usual size."""
    data = x.data if sp.issparse(x) else x
    if math.prod(data.shape) == 0:
        return 0
    size = int(namespace(data).finfo(data.dtype).bits) // 8
    exponent = math.frexp(float(data.max()))[1]
    if abs(exponent) <= _USUAL[size]:
        return 0
    return max(-_MOST[size], min(_MOST[size], exponent))
