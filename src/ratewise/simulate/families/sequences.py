"""Families on sequences: a GRU, one layer of attention, a deep and a wide transformer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ratewise.errors import invalid
from ratewise.models import sequence
from ratewise.models.attention import explicit
from ratewise.simulate.families import real
from ratewise.simulate.families.parts import Source, assemble, check_multiple, check_whole
from ratewise.simulate.task import Task


def gru(
    *,
    data: Any = "pydoc",
    width: Any = 16,
    length: Any = None,
    rows: Any = None,
    batch_size: Any = 16,
    folder: str | Path | None = None,
) -> Task:
    """Return a GRU: the next character at each position of a text; of digits, row by row, which."""
    source = _source(data, length, rows, folder, follows=False)
    check_whole("width", width, 1, 4096)
    symbols = source.alphabet > 0
    inputs = source.alphabet or source.shape[-1]
    model = functools.partial(
        sequence.RecurrentNet, inputs, width, source.outputs, symbols, not symbols
    )
    return assemble("gru", model, source, batch_size)


def attention(
    *,
    data: Any = "digits",
    width: Any = 16,
    heads: Any = 2,
    length: Any = None,
    rows: Any = None,
    batch_size: Any = 16,
    folder: str | Path | None = None,
) -> Task:
    """Return one self-attention layer and mean pooling: which digit, or which character follows."""
    source = _source(data, length, rows, folder, follows=True)
    _heads(width, heads)
    symbols = source.alphabet > 0
    inputs = source.alphabet or source.shape[-1]
    model = functools.partial(
        sequence.AttentionNet, inputs, source.shape[0], width, heads, source.outputs, symbols
    )
    return assemble("attention", model, source, batch_size)


def transformer(
    name: str,
    *,
    data: Any = "pydoc",
    width: Any,
    depth: Any,
    heads: Any,
    length: Any = 16,
    rows: Any = None,
    batch_size: Any = 8,
    folder: str | Path | None = None,
) -> Task:
    """Return a causal transformer of characters.

    Args:
        name: of the family.
        data, width, depth, heads, length, rows, batch_size, folder: options of the family.
    """
    real.check_data(data, real.TEXTS)
    source = _source(data, length, rows, folder, follows=False)
    _heads(width, heads)
    check_whole("depth", depth, 1, 64)
    model = functools.partial(
        sequence.CharTransformer,
        source.alphabet,
        length,
        width,
        heads,
        depth,
        expansion=2,
        attend=explicit,
    )
    return assemble(name, model, source, batch_size)


def _source(data: Any, length: Any, rows: Any, folder: str | Path | None, follows: bool) -> Source:
    real.check_data(data, (*real.TEXTS, "digits"))
    if data == "digits":
        for name, given in (("length", length), ("rows", rows)):
            if given is not None:
                raise invalid(name, "None where data='digits'", given, f"leave {name} out")
        return real.rows()
    length, rows = (16 if length is None else length), (real.MOST_ROWS if rows is None else rows)
    check_whole("length", length, 2, 256)
    check_whole("rows", rows, 2, real.LARGEST)
    return real.text(data, length, follows, folder, rows)


def _heads(width: Any, heads: Any) -> None:
    check_whole("width", width, 1, 4096)
    check_whole("heads", heads, 1, width)
    check_multiple("width", width, "heads", heads)
