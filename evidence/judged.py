"""What learned schedules are judged on: trainings drawn and named once, none of them trained on.

A task is known by its name alone, so that a worker process can build it again. Random teachers
come from run seeds that no policy has met; all other data are of `ratewise.learning.tasks.JUDGING`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from ratewise import simulate
from ratewise.data import sets
from ratewise.errors import unknown
from ratewise.learning.tasks import held_apart
from ratewise.models import dense, sequence, vision
from ratewise.simulate.families import real
from ratewise.simulate.families.parts import Source, assemble

FAMILIES = ("mlp", "convnet", "gru", "transformer", "long")
#: Of the generator that draws the tasks on random teachers.
DRAW_SEED = 20_26_11
TEACHERS = 30
#: Of sentence polarity: sentences, words a sentence, and words that have a code of their own.
SENTENCES, WORDS, VOCABULARY = 4000, 24, 2000
_PICTURES = 3000


@dataclass(frozen=True)
class Judged:
    """One training that judges.

    Args:
        name: unique; it says what is trained, how and for how long.
        family: one of `FAMILIES`.
        model: a family of `ratewise.simulate`, or a key of `OWN`.
        options: the model's.
        optimizer: a name that `simulate.run` takes.
        steps: the length of a run.
    """

    name: str
    family: str
    model: str
    options: dict[str, Any] = field(hash=False)
    optimizer: str
    steps: int

    @property
    def data(self) -> str:
        """The name of what is learned."""
        return str(self.options["data"])

    def task(self) -> simulate.Task:
        """Return what is simulated, a quarter of its rows held out; made once a process."""
        return task(self.name)


@cache
def tasks() -> tuple[Judged, ...]:
    """Return all trainings that judge."""
    return (*_teachers(), *_vectors(), *_images(), *_recurrent(), *_transformers(), *_long())


def names() -> tuple[str, ...]:
    """Return the names of all trainings that judge."""
    return tuple(one.name for one in tasks())


def named(name: str) -> Judged:
    """Return the training of that name.

    Raises:
        UnknownName: there is none.
    """
    found = _named().get(name)
    if found is None:
        raise unknown("judged task", name, _named())
    return found


@cache
def _named() -> dict[str, Judged]:
    return {one.name: one for one in tasks()}


@cache
def task(name: str) -> simulate.Task:
    """Return what is simulated under a name, a quarter of its rows held out.

    Raises:
        UnknownName: no such task.
        MissingData, MissingExtra: its data are not there.
    """
    one = named(name)
    build = OWN.get(one.model) or partial(simulate.family, one.model)
    return replace(held_apart(build(**one.options)), name=name)


# -- what is judged on ------------------------------------------------------------------------


def _each(
    family: str,
    model: str,
    options: dict[str, Any],
    *,
    steps: tuple[int, ...] = (300,),
    optimizers: tuple[str, ...] = ("sgd", "adamw"),
) -> list[Judged]:
    title = f"{model} {options['data']}" + (" long" if family == "long" else "")
    return [
        Judged(f"{title} {optimizer} {length}", family, model, options, optimizer, length)
        for length in steps
        for optimizer in optimizers
    ]


def _teachers() -> list[Judged]:
    rng = np.random.default_rng(DRAW_SEED)

    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    drawn = []
    for number in range(1, TEACHERS + 1):
        model = pick("mlp", "residual-mlp")
        options = {
            "data": "teacher",
            "inputs": int(rng.integers(8, 49)),
            "width": pick(16, 24, 32, 48, 64),
            "depth": int(rng.integers(1, 4)),
            "classes": pick(2, 3, 5, 10, None),
            "label_noise": pick(0.0, 0.05, 0.2),
            "size": pick(1024, 2048, 3072, 4096),
            "spectrum": pick(0.5, 1.0, 2.0),
            "batch_size": pick(16, 32, 64),
        }
        steps, optimizer = pick(150, 300, 500, 800), pick("sgd", "adamw", "adam")
        name = f"{model} teacher {number:02} {optimizer} {steps}"
        drawn.append(Judged(name, "mlp", model, options, optimizer, steps))
    return drawn


def _vectors() -> list[Judged]:
    models = (("mlp", "digits"), ("residual-mlp", "digits"), ("flat-mlp", "fashion"))
    each = partial(_each, "mlp", steps=(200, 500))
    return [one for model, data in models for one in each(model, {"data": data})]


def _images() -> list[Judged]:
    sizes = {"lenet": 32, "vgg": 32, "resnet": 16}  # a residual step costs twice the others'
    pairs = [(model, data) for data in ("digits", "fashion") for model in sizes]
    found = [
        one
        for model, data in pairs
        for one in _each("convnet", model, {"data": data, "batch_size": sizes[model]})
    ]
    for kind in ("cifar-lenet", "cifar-resnet"):
        found += _each("convnet", kind, {"data": "cifar", "batch_size": 16})
    return found


def _recurrent() -> list[Judged]:
    text = {"data": "shakespeare", "width": 32, "batch_size": 16}
    rows = {"data": "digits", "batch_size": 16}
    return _each("gru", "gru", text, steps=(300, 600)) + _each("gru", "gru", rows)


def _transformers() -> list[Judged]:
    each = partial(_each, "transformer")
    return [
        *each("deep-transformer", {"data": "shakespeare", "depth": 3}),
        *each("wide-transformer", {"data": "shakespeare", "width": 32}, steps=(300, 600)),
        *each("attention", {"data": "digits"}),
        *each("vit", {"data": "digits"}),
        *each("vit", {"data": "fashion"}),
        *each("word-attention", {"data": "polarity"}),
    ]


def _long() -> list[Judged]:
    """Return runs longer than most, and wider: ten times the width of the usual perceptron."""
    wide = {"data": "teacher", "inputs": 32, "width": 320, "size": 4096, "classes": 10}
    wide |= {"label_noise": 0.05}
    adamw = partial(_each, "long", steps=(1000,), optimizers=("adamw",))
    return [
        *_each("long", "mlp", wide, steps=(1000, 1500, 2000)),
        *adamw("lenet", {"data": "digits", "batch_size": 32}),
        *adamw("gru", {"data": "shakespeare", "width": 32, "batch_size": 16}),
    ]


# -- tasks that no family of the simulator has --------------------------------------------------


def _flat_mlp(*, data: str, width: int = 32, batch_size: int = 32) -> simulate.Task:
    """Return a perceptron on the pixels of images."""
    pictures = real.images(data, None)
    images, labels = pictures.data  # type: ignore[misc]  # they are shared, not a function
    flat = replace(pictures, data=(images.flatten(1), labels), shape=(images[0].numel(),))
    return assemble("mlp", partial(dense.mlp, *flat.shape, width, 10), flat, batch_size)


def _cifar_lenet(*, data: str, batch_size: int) -> simulate.Task:
    source = _pictures(data)
    return assemble("lenet", partial(vision.ConvNet, (3, 8, 16), 16, 10), source, batch_size)


def _cifar_resnet(*, data: str, batch_size: int) -> simulate.Task:
    # the stem strides: a step at the full 16x16 pixels would cost four times as much
    model = partial(vision.ResNet, (8, 16), 10, stem_stride=2)
    return assemble("resnet", model, _pictures(data), batch_size)


@cache
def _pictures(data: str) -> Source:
    """Return colour images at 16x16, each channel standardised."""
    (images, labels), _ = sets.cifar(None)
    order = _order(len(labels))[:_PICTURES]
    x = avg_pool2d(torch.from_numpy(images[order]).float(), 2)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    return Source(data, (x, torch.from_numpy(labels[order]).long()), len(x), (3, 16, 16), 10)


def _word_attention(*, data: str, width: int = 16, batch_size: int = 16) -> simulate.Task:
    """Return one layer of attention over the words of a sentence: praise or blame."""
    source = _sentences(data)
    model = partial(sequence.AttentionNet, VOCABULARY, WORDS, width, 2, 2, symbols=True)
    return assemble("attention", model, source, batch_size)


@cache
def _sentences(data: str) -> Source:
    """Return sentences as codes [n, WORDS]: 0 is padding, 1 a rare word."""
    texts, labels = sets.polarity(None)
    order = _order(len(texts))[:SENTENCES]
    words = [texts[i].split()[:WORDS] for i in order]
    # only words that are trained on: rows held out are the last ones
    counts = Counter(word for line in words[: 3 * len(words) // 4] for word in line)
    common = {word: 2 + i for i, (word, _) in enumerate(counts.most_common(VOCABULARY - 2))}
    codes = torch.zeros(len(words), WORDS, dtype=torch.long)
    for row, line in zip(codes, words, strict=True):
        row[: len(line)] = torch.tensor([common.get(word, 1) for word in line])
    targets = torch.tensor([labels[i] for i in order])
    return Source(data, (codes, targets), len(codes), (WORDS,), 2, alphabet=VOCABULARY)


def _order(count: int) -> np.ndarray:
    return torch.randperm(count, generator=torch.Generator().manual_seed(real.SHUFFLE_SEED)).numpy()


OWN: dict[str, Callable[..., simulate.Task]] = {
    "flat-mlp": _flat_mlp,
    "cifar-lenet": _cifar_lenet,
    "cifar-resnet": _cifar_resnet,
    "word-attention": _word_attention,
}
