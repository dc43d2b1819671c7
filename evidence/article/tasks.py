"""Tasks that the study of the article adds to those of `ratewise.compare`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.nn.utils import parametrize

from evidence.cells import Stranger
from ratewise.compare import tasks, training
from ratewise.compare.task import Task
from ratewise.compare.tasks import parts, text
from ratewise.data import sets
from ratewise.data.text import encode
from ratewise.models import dense
from ratewise.models.sequence import CharTransformer

#: Steps of the tasks that are not 300 steps long.
LONGER = {"mnist1d-mlp": 1500, "bent-mlp": 1500, "wavy-mlp": 1500, "friedman-mlp": 6000}
#: Parameters -> width, heads, depth of a transformer on Shakespeare; widths of perceptrons.
SIZES = {"10k": (16, 2, 2), "100k": (64, 4, 2), "1M": (144, 4, 4)}
WIDTHS = {
    "mnist1d": {"10k": 78, "100k": 293, "1M": 975},
    "cifar": {"10k": 13, "100k": 115, "1M": 684, "5M": 1870},
}
LENGTH, BATCH = 32, 8
#: Optimizer steps of what fine-tuning begins with, its rate, its seed; the rank of LoRA.
PRETRAINING, RATE, SEED, RANK = 2000, 3e-3, 20231, 4
#: Of the made-up data: which teacher is drawn, and how many rows.
DRAWN, ROWS = 20231, 4096
#: Validations of a run whose curve is not looked at.
FEW = 5


def load(name: str, data: str | None, pretraining: int = PRETRAINING) -> Task:
    """Return a task of the study, or one of `ratewise.compare.tasks`, in its small preset.

    Args:
        name: its data set, then what learns it: a model, a size (as "10k") or a way of
            fine-tuning ("lora" or "full").
        data: folder with the data sets.
        pretraining: optimizer steps before fine-tuning.
    """
    source, _, kind = name.partition("-")
    if name in _MADE:
        task = _MADE[name](name, data)
        return replace(task, steps=LONGER.get(name, 300), data_set=source)
    if kind in ("lora", "full"):
        return fine_tuned(name, data, pretraining)
    if kind in SIZES or kind in WIDTHS.get(source, ()):
        return sized(name, data)
    return tasks.load(name, "small", data)


# -- small tasks on other data --------------------------------------------------------------------


def _table(name: str, x: Tensor, y: Tensor, *, width: int = 32, batch: int = 32) -> Task:
    """Return a perceptron on columns; whole numbers are classes, others a real target."""
    classes = not y.is_floating_point()
    split = parts.split((x, y))
    inputs = parts.standardised([part[0] for part in split])
    targets = [part[1] for part in split]
    if not classes:
        columns = parts.standardised([column[:, None] for column in targets])
        targets = [column[:, 0] for column in columns]
    train, validation, test = zip(inputs, targets, strict=True)
    return Task(
        name=name,
        model=functools.partial(dense.mlp, x.shape[1], width, int(y.max()) + 1 if classes else 1),
        loss=parts.cross_entropy if classes else parts.squared_error,
        train=train,
        validation=validation,
        test=test,
        steps=300,
        batch_size=batch,
    )


def _mnist1d(name: str, data: str | None) -> Task:
    """Forty points of a signal, ten classes (Greydanus and Kobak 2020)."""
    x, y = map(torch.from_numpy, sets.mnist1d(data))
    return _table(name, x[: 2 * ROWS], y[: 2 * ROWS].long())


def _faces(name: str, data: str | None) -> Task:
    """Which of forty persons a face is, ten pictures of each (AT&T Laboratories Cambridge)."""
    images = torch.from_numpy(sets.faces(data)).double()[:, None]
    people = torch.arange(len(images)) // 10
    return _table(name, adaptive_avg_pool2d(images, (14, 12)).flatten(1), people, batch=16)


def _friedman(name: str, data: str | None) -> Task:
    """Five of ten uniform columns make a real target with noise (Friedman 1991, eq. 61)."""
    drawn = torch.Generator().manual_seed(DRAWN)
    x = torch.rand(ROWS, 10, generator=drawn, dtype=torch.float64)
    y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5).square()
    y += 10 * x[:, 3] + 5 * x[:, 4] + torch.randn(ROWS, generator=drawn, dtype=torch.float64)
    return _table(name, x, y)


def _teacher(stranger: Stranger, name: str, data: str | None) -> Task:
    """One teacher of a kind that trained and developed nothing."""
    return _table(name, *stranger(DRAWN), batch=16)


def _kjv(name: str, data: str | None) -> Task:
    """The next character of the King James Version, by one layer of a transformer."""
    codes, alphabet = encode(sets.kjv(data))
    model = functools.partial(CharTransformer, alphabet, LENGTH // 2, 16, 2, 1)
    return text.characters(name, "small", codes, LENGTH // 2, model, BATCH)


_MADE: Mapping[str, Callable[[str, str | None], Task]] = {
    "mnist1d-mlp": _mnist1d,
    "faces-mlp": _faces,
    "friedman-mlp": _friedman,
    "bent-mlp": functools.partial(_teacher, Stranger(torch.relu, depth=3, classes=5, noise=0.1)),
    "wavy-mlp": functools.partial(_teacher, Stranger(torch.sin, depth=2, classes=None, noise=0.3)),
    "kjv-transformer": _kjv,
}


# -- sizes ----------------------------------------------------------------------------------------


def sized(name: str, data: str | None) -> Task:
    """Return a data set for a model of so many parameters; what is trained on is the same."""
    source, _, size = name.partition("-")
    if source == "shakespeare":
        codes, alphabet = encode(sets.shakespeare(data))
        model = functools.partial(CharTransformer, alphabet, LENGTH, *SIZES[size])
        task = text.characters(name, "small", codes, LENGTH, model, BATCH)
    else:
        task = load({"mnist1d": "mnist1d-mlp", "cifar": "cifar-cnn"}[source], data)
        width, inputs = WIDTHS[source][size], task.train[0][0].numel()
        perceptron = functools.partial(_flat, inputs, width, width, 10)
        task = replace(task, name=name, model=perceptron, steps=300)
    return replace(task, evaluations=FEW, data_set=source)


def _flat(*widths: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *dense.mlp(*widths))


# -- fine-tuning ----------------------------------------------------------------------------------


def fine_tuned(name: str, data: str | None, steps: int) -> Task:
    """Return a text for a transformer that knows Shakespeare: all of it learns, or a LoRA.

    Args:
        name: the text, then "full" or "lora".
        data: folder with the data sets.
        steps: what came before.
    """
    source, _, kind = name.partition("-")
    _, codes, alphabet = _both(source, data)
    known = pretrained(source, data, steps)
    model = functools.partial(_begun, alphabet, known, kind == "lora")
    task = text.characters(name, "small", codes, LENGTH, model, BATCH)
    return replace(task, evaluations=FEW, data_set=source)


@functools.cache
def pretrained(source: str, data: str | None, steps: int) -> Mapping[str, Tensor]:
    """Return the weights of a transformer that learned Shakespeare with AdamW, linear decay.

    Args:
        source: the other text, whose characters it knows, too.
        data: folder with the data sets.
        steps: optimizer steps.
    """
    codes, _, alphabet = _both(source, data)
    made: list[nn.Module] = []  # a training returns its record alone

    def model() -> nn.Module:
        made.append(_transformer(alphabet))
        return made[-1]

    task = text.characters("before", "small", codes, LENGTH, model, BATCH)
    training.train(replace(task, steps=steps, evaluations=1), "adamw", "linear", RATE, SEED)
    return {key: value.detach() for key, value in made[-1].state_dict().items()}


class LowRank(nn.Module):
    """W + B A (Hu et al. 2021, arXiv 2106.09685, eq. 3): A [r, n] is random, B [m, r] starts at 0.

    Args:
        weight: the matrix [m, n] that is left alone.
        rank: r.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) * weight.shape[1] ** -0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted matrix."""
        return weight + self.up @ self.down


def _begun(alphabet: int, known: Mapping[str, Tensor], low_rank: bool) -> nn.Module:
    """Return the model that learned before; with LoRA it is frozen, and linear layers change."""
    model = _transformer(alphabet)
    model.load_state_dict(known)
    if low_rank:
        model.requires_grad_(False)
        for block in model.blocks:
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    low = LowRank(layer.weight, RANK)
                    parametrize.register_parametrization(layer, "weight", low)
    return model


def _transformer(alphabet: int) -> CharTransformer:
    return CharTransformer(alphabet, LENGTH, *SIZES["100k"])


def _both(source: str, data: str | None) -> tuple[Tensor, Tensor, int]:
    """Return Shakespeare and another text in one alphabet, and its size."""
    first = sets.shakespeare(data)
    second = sets.pydoc() if source == "pydoc" else getattr(sets, source)(data)
    codes, alphabet = encode(first + second)
    return codes[: len(first)], codes[len(first) :], alphabet
