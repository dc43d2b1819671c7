"""What defaults and advice are developed and judged on: small models, from scratch or further.

A cell's rate is tuned on one part of the rows that are held out, and judged on another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ratewise.data import sets
from ratewise.data.text import encode, hashed_words, windows
from ratewise.models import dense, sequence, vision
from ratewise.models.attention import explicit
from ratewise.rules.fixed import fixed_scale
from ratewise.simulate.families import real
from ratewise.simulate.families.parts import Source, cross_entropy, squared_error
from ratewise.simulate.families.teacher import VectorTeacher
from ratewise.simulate.order import DataOrder
from ratewise.simulate.task import Data, Task

#: Of texts; other sets are taken whole, those of `real` as they are there.
ROWS = 8192
#: Rows that choose a rate, and as many others that judge: at most these, and an eighth of all.
APART = 512
#: Steps of what comes before further training, with AdamW and linear decay from a rate of 0.003.
BEFORE, BEFORE_LR, BEFORE_BATCH = 500, 3e-3, 32
_WORDS, _BUCKETS = 24, 512
_TEXTS = ("wikitext", "shakespeare", "kjv")
#: Model -> characters that it reads.
_LENGTHS = {"window": 8, "transformer": 16, "nano": 32}


class Cell(NamedTuple):
    """One training."""

    data: str
    model: str
    batch: int
    steps: int  #: optimizer steps
    optimizer: str
    further: bool = False  #: fine-tuning: half of the classes (or of the text) came before

    def __str__(self) -> str:
        how = ", further" if self.further else ""
        return f"{self.data} {self.model}, batch {self.batch}, {self.steps}, {self.optimizer}{how}"


def task(cell: Cell, *, judging: bool) -> Task:
    """Return what is trained; its rows held out are those that judge, or those that choose."""
    source = _source(cell.data, cell.model, "after" if cell.further else "")
    apart = min(APART, source.size // 8)
    parts: Data | Callable[[int], Data]
    if callable(source.data):
        parts = partial(_each_run_s, source.data, apart, judging)
    else:
        parts = _with(source.data, apart, judging)
    model = partial(_further, cell.data, cell.model) if cell.further else _model(cell.model, source)
    return Task(str(cell), model, source.loss, parts, cell.batch, evaluation=64, held_out=apart)


def _with(data: Data, apart: int, judging: bool) -> Data:
    """Return the rows that are trained on, and after them one of the two parts held out."""
    ends = slice(-apart, None) if judging else slice(-2 * apart, -apart)
    return tuple(torch.cat([x[: -2 * apart], x[ends]]) for x in data)


def _each_run_s(draw: Callable[[int], Data], apart: int, judging: bool, seed: int) -> Data:
    return _with(draw(seed), apart, judging)


# -- data ---------------------------------------------------------------------------------------


@cache
def _source(data: str, model: str, part: str) -> Source:
    """Return a set: all of it, or what lies "before" or "after" the middle of text or classes."""
    if data in _TEXTS:
        return _text(data, _LENGTHS[model], model == "window", part)
    found = _SETS[data]() if data in _SETS else real.vectors(data, None)
    if not part or callable(found.data):
        return found
    inputs, targets = found.data
    regression = found.loss is squared_error
    late = inputs[:, 0] > 0 if regression else targets >= found.outputs // 2
    keep = late if part == "after" else ~late
    return replace(found, data=(inputs[keep], targets[keep]), size=int(keep.sum()))


def _text(data: str, length: int, follows: bool, part: str) -> Source:
    codes, alphabet = encode(getattr(sets, data)(None))
    half = len(codes) // 2
    codes = {"": codes, "before": codes[:half], "after": codes[half:]}[part]
    rows = windows(codes, length, ROWS)
    rows = rows[_order(len(rows))]
    targets = rows[:, -1] if follows else rows[:, 1:].contiguous()
    return Source(
        data, (rows[:, :-1].contiguous(), targets), len(rows), (length,), alphabet, alphabet
    )


def _fashion() -> Source:
    return _flat(real.images("fashion", None))


def _flat(pictures: Source) -> Source:
    images, labels = pictures.data  # type: ignore[misc]  # they are shared, not a function
    return replace(pictures, data=(images.flatten(1), labels), shape=(images[0].numel(),))


def _cifar() -> Source:
    """Return colour images at 8x8, each channel standardised."""
    (train, labels), (test, others) = sets.cifar(None)
    x = avg_pool2d(torch.from_numpy(np.concatenate([train, test])).float(), 4)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    y = torch.from_numpy(np.concatenate([labels, others])).long()
    order = _order(len(x))
    return Source("cifar", (x[order], y[order]), len(x), (3, 8, 8), 10)


def _mnist1d() -> Source:
    x, y = sets.mnist1d(None)
    order, signals = _order(len(x)), torch.from_numpy(x).float()
    return Source(
        "mnist1d", (signals[order] / signals.std(), torch.from_numpy(y)[order]), len(x), (40,), 10
    )


def _polarity() -> Source:
    sentences, labels = sets.polarity(None)
    codes = torch.tensor([hashed_words(line, _BUCKETS, _WORDS) for line in sentences])
    order = _order(len(codes))
    return Source(
        "polarity", (codes[order], torch.tensor(labels)[order]), len(codes), (_WORDS,), 2, _BUCKETS
    )


@dataclass(frozen=True)
class Stranger:
    """Random teachers that nothing was developed on: other bends, deeper, on unruly inputs.

    Inputs are correlated (0.8 between neighbours) and heavy-tailed (Student's t with 3 degrees of
    freedom); a run's seed determines its teacher and data.

    Args:
        bend: after each hidden layer.
        depth: hidden layers.
        classes: how many; None for a real target, standardised.
        noise: share of labels drawn anew, or the standard deviation of what is added.
    """

    bend: Callable[[Tensor], Tensor]
    depth: int
    classes: int | None
    noise: float
    inputs: int = 20
    size: int = 4096

    def source(self) -> Source:
        """Return what a student must know."""
        loss = cross_entropy if self.classes else squared_error
        return Source("stranger", self, self.size, (self.inputs,), self.classes or 1, loss=loss)

    def __call__(self, seed: int) -> Data:
        """Return the run's (inputs, targets)."""
        generator = torch.Generator().manual_seed(seed ^ 0x57A6E12)
        normal = partial(torch.randn, generator=generator)
        x = normal(self.size, self.inputs)
        for column in range(1, self.inputs):
            x[:, column] = 0.8 * x[:, column - 1] + 0.6 * x[:, column]
        x /= normal(self.size, 3).square().mean(1, keepdim=True).sqrt()
        hidden = x
        for _ in range(self.depth):
            width = hidden.shape[1]
            hidden = self.bend(hidden @ (normal(width, 24) * (2 / width) ** 0.5) + 0.3 * normal(24))
        answers = hidden @ normal(24, self.classes or 1)
        answers = (answers - answers.mean(0)) / answers.std(0).clamp_min(1e-6)
        if self.classes is None:
            return x, answers[:, 0] + self.noise * normal(self.size)
        drawn = torch.randint(self.classes, (self.size,), generator=generator)
        noisy = torch.rand(self.size, generator=generator) < self.noise
        return x, torch.where(noisy, drawn, answers.argmax(1))


_SETS: dict[str, Callable[[], Source]] = {
    "fashion": _fashion,
    "cifar": _cifar,
    "mnist1d": _mnist1d,
    "polarity": _polarity,
    "teachers": VectorTeacher(size=2048, classes=4, label_noise=0.1).source,
    "bent teachers": Stranger(torch.relu, depth=3, classes=5, noise=0.1).source,
    "wavy teachers": Stranger(torch.sin, depth=2, classes=None, noise=0.3).source,
}


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(real.SHUFFLE_SEED))


# -- models -------------------------------------------------------------------------------------


def _model(name: str, source: Source) -> Callable[[], nn.Module]:
    """Return what builds a model of some thousand parameters."""
    shape, outputs = source.shape, source.outputs
    flat = int(np.prod(shape))
    models: dict[str, Callable[[], nn.Module]] = {
        "mlp": partial(_flat_mlp, flat, outputs),
        "residual": partial(dense.ResidualMLP, flat, 16, 3, outputs),
        "lenet": partial(vision.ConvNet, (3, 8, 16), shape[-1], outputs),
        "window": partial(_window, source.alphabet, flat, outputs),
        "attention": partial(
            sequence.AttentionNet, source.alphabet, flat, 8, 2, outputs, symbols=True
        ),
        "transformer": partial(_transformer, source.alphabet, flat, 1),
        "nano": partial(_transformer, source.alphabet, flat, 4),
    }
    return models[name]


def _flat_mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(1), *dense.mlp(inputs, 32, outputs))


def _window(alphabet: int, length: int, outputs: int) -> nn.Module:
    """Embedded characters side by side, a perceptron: the next one (Bengio et al. 2003)."""
    embed = nn.Embedding(alphabet, 8)
    return nn.Sequential(embed, nn.Flatten(1), *dense.mlp(8 * length, 32, outputs))


def _transformer(alphabet: int, length: int, depth: int) -> nn.Module:
    return sequence.CharTransformer(alphabet, length, 16, 2, depth, attend=explicit)


def _further(data: str, model: str) -> nn.Module:
    """Return a model that was trained before; of classifiers the last layer is drawn anew."""
    source = _source(data, model, "after")
    fresh, known = _model(model, source)(), dict(_before(data, model))
    if not source.alphabet:
        for name in list(known)[-2:]:
            del known[name]
    fresh.load_state_dict(known, strict=False)
    return fresh


@cache
def _before(data: str, model: str) -> dict[str, Tensor]:
    """Train a model on the first half of the classes, or of the text."""
    source = _source(data, model, "before")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = _model(model, source)()
        optimizer = torch.optim.AdamW(net.parameters(), lr=BEFORE_LR)
        order = DataOrder([0], source.size, BEFORE_BATCH)
        for step in range(BEFORE):
            optimizer.param_groups[0]["lr"] = BEFORE_LR * fixed_scale("linear", step, BEFORE)
            rows = order.next()[0]
            inputs, targets = (x[rows] for x in source.data)  # type: ignore[union-attr]
            optimizer.zero_grad()
            source.loss(net(inputs), targets).backward()
            optimizer.step()
    return {name: value.detach() for name, value in net.state_dict().items()}
