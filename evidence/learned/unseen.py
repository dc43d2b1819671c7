"""Data that no rule of the ratio was ever run on before this study: four sets, built as cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from evidence import before
from evidence.cells import APART, ROWS, Cell, Stranger
from ratewise.data import sets
from ratewise.data.text import encode, windows
from ratewise.models import dense, sequence
from ratewise.models.attention import explicit
from ratewise.simulate.families.parts import Source, squared_error
from ratewise.simulate.families.real import SHUFFLE_SEED
from ratewise.simulate.task import Data, Task


@dataclass(frozen=True)
class Friedman:
    """Five of ten uniform columns make a real target with noise (Friedman 1991, eq. 61).

    Args:
        size: rows; a run's seed determines them.
    """

    size: int = 4096

    def source(self) -> Source:
        """Return what a student must know."""
        return Source("friedman", self, self.size, (10,), 1, loss=squared_error)

    def __call__(self, seed: int) -> Data:
        """Return the run's (inputs, targets), standardised."""
        drawn = torch.Generator().manual_seed(seed ^ 0xF51E)
        x = torch.rand(self.size, 10, generator=drawn)
        y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5).square()
        y = y + 10 * x[:, 3] + 5 * x[:, 4] + torch.randn(self.size, generator=drawn)
        return (x - 0.5) * 12**0.5, (y - 14.4) / 5.0  # its mean and deviation


def _faces() -> Source:
    """Which of forty persons a face is, ten pictures of each (AT&T Laboratories Cambridge)."""
    images = torch.from_numpy(sets.faces(None)).float()[:, None]
    x = adaptive_avg_pool2d(images, (14, 12)).flatten(1)
    x = (x - x.mean()) / x.std()
    order = _order(len(x))
    people = torch.arange(len(x)) // 10
    return Source("faces", (x[order], people[order]), len(x), (168,), 40)


def _help(length: int, follows: bool, half: slice) -> Source:
    codes, alphabet = encode(sets.pydoc())
    rows = windows(codes[half], length, ROWS)
    rows = rows[_order(len(rows))]
    parts = rows[:, :-1].contiguous(), rows[:, -1] if follows else rows[:, 1:].contiguous()
    return Source("help texts", parts, len(rows), (length,), alphabet, alphabet)


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED))


#: Tables; "help texts" depend on the model.
_TABLES: dict[str, Callable[[], Source]] = {
    "faces": _faces,
    "friedman": Friedman().source,
    "folded teachers": Stranger(torch.abs, depth=4, classes=7, noise=0.05, inputs=40).source,
}
SETS = (*_TABLES, "help texts")
#: The middle of the help texts, in characters.
_HALF = 186_000


@cache
def _source(data: str, model: str, part: str) -> Source:
    """Return a set: all of it, or what lies "before" or "after" the middle of text or classes."""
    if data == "help texts":
        half = {"": slice(None), "before": slice(_HALF), "after": slice(_HALF, None)}[part]
        return _help(8 if model == "window" else 16, model == "window", half)
    found = _TABLES[data]()
    if not part:
        return found
    inputs, targets = found.data  # type: ignore[misc]  # drawn sets are never trained further
    keep = (targets >= found.outputs // 2) == (part == "after")
    return replace(found, data=(inputs[keep], targets[keep]), size=int(keep.sum()))


def _model(name: str, source: Source) -> Callable[[], nn.Module]:
    flat = int(np.prod(source.shape))
    if name == "window":
        return partial(_window, source.alphabet, flat)
    models: dict[str, Callable[[], nn.Module]] = {
        "mlp": partial(dense.mlp, flat, 32, source.outputs),
        "residual": partial(dense.ResidualMLP, flat, 16, 3, source.outputs),
        "transformer": partial(
            sequence.CharTransformer, source.alphabet, flat, 16, 2, 1, attend=explicit
        ),
    }
    return models[name]


def _window(alphabet: int, length: int) -> nn.Module:
    embed = nn.Embedding(alphabet, 8)
    return nn.Sequential(embed, nn.Flatten(1), *dense.mlp(8 * length, 32, alphabet))


def task(cell: Cell, *, judging: bool) -> Task:
    """Return what is trained; its rows held out are those that judge, or those that choose."""
    source = _source(cell.data, cell.model, "after" if cell.further else "")
    apart = min(APART, source.size // 8)
    model = _model(cell.model, source)
    if cell.further:
        model = partial(_further, cell.data, cell.model, model)
    parts: Data | Callable[[int], Data]
    split = partial(_split, apart, judging)
    if callable(source.data):
        parts = partial(_each_run_s, source.data, split)
    else:
        parts = split(source.data)
    return Task(str(cell), model, source.loss, parts, cell.batch, evaluation=64, held_out=apart)


def _split(apart: int, judging: bool, data: Data) -> Data:
    """Return the rows that are trained on, and after them one of the two parts held out."""
    ends = slice(-apart, None) if judging else slice(-2 * apart, -apart)
    return tuple(torch.cat([x[: -2 * apart], x[ends]]) for x in data)


def _each_run_s(draw: Callable[[int], Data], split: Callable[[Data], Data], seed: int) -> Data:
    return split(draw(seed))


def _further(data: str, name: str, model: Callable[[], nn.Module]) -> nn.Module:
    """Return a model that was trained on what came before; a classifier's head begins anew."""
    fresh, known = model(), dict(_before(data, name))
    if not _source(data, name, "").alphabet:
        for last in list(known)[-2:]:
            del known[last]
    fresh.load_state_dict(known, strict=False)
    return fresh


@cache
def _before(data: str, name: str) -> dict[str, Tensor]:
    source = _source(data, name, "before")
    like = Task(data, _model(name, source), source.loss, source.data, 32)
    with torch.random.fork_rng(devices=[]):
        known = before.trained(like, source.data)  # type: ignore[arg-type]
    return {part: value.detach() for part, value in known.state_dict().items()}
