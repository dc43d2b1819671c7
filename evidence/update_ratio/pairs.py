"""Pre-training and fine-tuning: tasks whose runs begin at weights that were trained on another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from evidence.before import SEED, trained
from ratewise import simulate
from ratewise.data import sets
from ratewise.data.text import encode, windows
from ratewise.simulate.families.teacher import ImageTeacher, VectorTeacher
from ratewise.simulate.task import Data, Task

#: Rows of the training that comes before.
ROWS = 8000
_NOISE = 0.1
_CLASSES = 4
#: The column of the housing table that says how far north a district lies.
_LATITUDE = 6


class Pair(NamedTuple):
    """Two sets of data for one architecture."""

    family: str
    options: dict[str, Any]  #: of the family
    data: Callable[[int], tuple[Data, Data]]  #: rows to train on first, and so many for later
    new_head: bool  #: whether the last layer begins anew


def _classes(teacher: VectorTeacher | ImageTeacher, later: int) -> tuple[Data, Data]:
    """Return rows labelled by four outputs of a teacher, and others labelled by four more."""
    generator = torch.Generator().manual_seed(SEED)
    inputs, answers = teacher.draw(generator)
    answers = (answers - answers.mean(0)) / answers.std(0)
    labels = [half.argmax(1) for half in answers.split(_CLASSES, dim=1)]
    noisy = torch.rand(len(inputs), generator=generator) < _NOISE
    drawn = torch.randint(_CLASSES, (len(inputs),), generator=generator)
    first, second = (torch.where(noisy, drawn, one) for one in labels)
    return (inputs[later:], first[later:]), (inputs[:later], second[:later])


def _vectors(later: int) -> tuple[Data, Data]:
    return _classes(VectorTeacher(classes=2 * _CLASSES, size=ROWS + later), later)


def _images(later: int) -> tuple[Data, Data]:
    return _classes(ImageTeacher(classes=2 * _CLASSES, size=ROWS + later), later)


def _cases(later: int) -> tuple[Data, Data]:
    """Return rows of WikiText as they are, and others in capital letters."""
    text = sets.wikitext(None)
    half = len(text) // 2
    codes, _ = encode(text)
    of = dict(zip(text, codes.tolist(), strict=True))
    upper = {x: of.get(x.upper(), code) for x, code in of.items()}
    table = torch.zeros(max(of.values()) + 1, dtype=torch.long)
    for letter, code in of.items():
        table[code] = upper[letter]
    before, after = windows(codes[:half], 16, ROWS), table[windows(codes[half:], 16, later)]
    after = after[torch.randperm(len(after), generator=torch.Generator().manual_seed(SEED))]
    first, second = ((x[:, :-1].contiguous(), x[:, 1:].contiguous()) for x in (before, after))
    return first, second


def _places(later: int) -> tuple[Data, Data]:
    """Return the districts of the north half of the housing table, and some of the south's."""
    x, y = (torch.from_numpy(part).float() for part in sets.housing(None))
    x = torch.where(x.isnan(), x.nanmedian(0).values, x)
    north = x[:, _LATITUDE] > x[:, _LATITUDE].median()
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    x, y, north = x[order], y[order], north[order]
    return (x[north][:ROWS], y[north][:ROWS]), (x[~north][:later], y[~north][:later])


_TEACHER = {"data": "teacher", "classes": _CLASSES, "batch_size": 8}
_TEXT = {"data": "wikitext", "batch_size": 8}
PAIRS: dict[str, Pair] = {
    "mlp, other classes": Pair("mlp", {**_TEACHER, "depth": 2}, _vectors, True),
    "residual mlp, other classes": Pair("residual-mlp", _TEACHER, _vectors, True),
    "lenet, other classes": Pair("lenet", _TEACHER, _images, True),
    "transformer, capitals": Pair("wide-transformer", {**_TEXT, "width": 32}, _cases, False),
    "gru, capitals": Pair("gru", {**_TEXT, "width": 32}, _cases, False),
    "housing, other places": Pair(
        "mlp", {"data": "housing", "depth": 2, "batch_size": 8}, _places, True
    ),
}


@cache
def task(name: str, rows: int) -> Task:
    """Return the second task of a pair on so many rows, its runs begun where the first ended."""
    pair = PAIRS[name]
    like = simulate.family(pair.family, **pair.options)
    first, second = pair.data(rows)
    before = trained(like, first)

    def model() -> nn.Module:
        begun = copy.deepcopy(before)
        if pair.new_head:
            head = [m for m in begun.modules() if hasattr(m, "reset_parameters")][-1]
            head.reset_parameters()  # type: ignore[operator]
        return begun

    return Task(f"{name}, {rows} rows", model, like.loss, second, like.batch_size)
