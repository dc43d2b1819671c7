"""Random training tasks for policies, never from a data set that judges them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ratewise.errors import unknown
from ratewise.rules.ratio_law import UNKNOWN, Outlook
from ratewise.simulate import Noise, Task, family

#: Data sets that policies may be trained on, and those that only judge them.
TRAINING = ("teacher", "breast-cancer", "wine", "diabetes", "housing", "wikitext")
JUDGING = ("digits", "fashion", "cifar", "shakespeare", "polarity")
#: Of a run, in optimizer steps; of one that is expensive, a third of the longest.
HORIZONS = (100, 8000)
CHEAP = ("mlp", "residual-mlp", "table")
#: Rows that are kept apart: their loss is half of what a policy is paid for.
HELD_OUT, MOST_HELD_OUT = 0.25, 1024
#: Data that have as many rows as wanted: the option that says how many, and the fewest.
ENDLESS = {"teacher": ("size", 1024), "wikitext": ("rows", 2048)}
#: How many of those trainings see each row about once, and the most rows.
FRESH, MOST_ROWS = 0.4, 100_000
#: In so many trainings the policy is told how often rows are seen, and how large a batch is.
TOLD, BATCH_TOLD = 0.75, 0.75
#: Base rates, over three decades. The anchor does not depend on them; a policy must not either.
RATES = (1e-4, 1e-1)

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "plain-sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adadelta": torch.optim.Adadelta,
}
#: How often each is drawn.
_WEIGHTS = {"sgd": 4, "adamw": 6, "adam": 3}


@dataclass(frozen=True)
class Setting:
    """One drawn training.

    Args:
        task: what is trained.
        optimizer: builds its optimizer at a given rate.
        steps: its length.
        noise: on its gradient or data.
        name: in words.
        run: what the policy is told of it, beside its length.
    """

    task: Task
    optimizer: Callable[..., torch.optim.Optimizer]
    steps: int
    noise: Noise
    name: str
    run: Outlook = UNKNOWN


def _teacher(rng: np.random.Generator) -> dict[str, Any]:
    classes = [2, 4, 8, None][rng.integers(4)]
    return {
        "data": "teacher",
        "classes": classes,
        "label_noise": float(rng.choice([0.0, 0.1, 0.3])),
        "size": int(rng.choice([1024, 2048, 4096])),
        "teacher_depth": int(rng.integers(1, 3)),
    }


def _vectors(rng: np.random.Generator) -> dict[str, Any]:
    return {**_teacher(rng), "inputs": int(rng.choice([8, 16, 32, 64]))}


def _images(rng: np.random.Generator) -> dict[str, Any]:
    return {**_teacher(rng), "channels": int(rng.choice([1, 3]))}


def _batch(rng: np.random.Generator, *sizes: int) -> dict[str, Any]:
    return {"batch_size": int(rng.choice(sizes))}


def _mlp(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    shape = {"width": int(rng.choice([16, 32, 64])), "depth": int(rng.integers(1, 4))}
    return "mlp", {**_vectors(rng), **shape, **_batch(rng, 8, 16, 32, 64, 128)}


def _residual(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    shape = {"width": int(rng.choice([16, 32])), "depth": int(rng.integers(2, 5))}
    return "residual-mlp", {**_vectors(rng), **shape, **_batch(rng, 8, 16, 32, 64, 128)}


def _table(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    data = str(rng.choice(["breast-cancer", "wine", "diabetes", "housing"]))
    name = str(rng.choice(["mlp", "residual-mlp"]))
    return name, {"data": data, "width": int(rng.choice([16, 32])), **_batch(rng, 16, 32, 64)}


def _convolutions(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    name = str(rng.choice(["lenet", "vgg", "resnet"]))
    return name, {**_images(rng), **_batch(rng, 16, 32, 64)}


def _vit(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    return "vit", {**_images(rng), **_batch(rng, 16, 32)}


def _gru(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    return "gru", {"data": "wikitext", "width": int(rng.choice([16, 32])), **_batch(rng, 8, 16)}


def _transformer(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    name = str(rng.choice(["attention", "deep-transformer", "wide-transformer"]))
    own: dict[str, Any] = {"width": int(rng.choice([16, 32]))}
    if name == "deep-transformer":
        own["depth"] = int(rng.integers(2, 5))
    return name, {"data": "wikitext", **own, **_batch(rng, 8, 16)}


_Draw = Callable[[np.random.Generator], tuple[str, dict[str, Any]]]
#: name -> (how a task is drawn, how often)
KINDS: dict[str, tuple[_Draw, int]] = {
    "mlp": (_mlp, 4),
    "residual-mlp": (_residual, 2),
    "table": (_table, 2),
    "convnet": (_convolutions, 2),
    "vit": (_vit, 1),
    "gru": (_gru, 1),
    "transformer": (_transformer, 2),
}


class Drawn:
    """Settings drawn at random; the default set of `ratewise learn`.

    Args:
        kinds: some of `KINDS`.
        horizons: least and greatest length of a run, in optimizer steps.
        folder: where data files lie; None takes the environment variable.

    Raises:
        UnknownName: no such kind.
    """

    def __init__(
        self,
        kinds: Sequence[str] = tuple(KINDS),
        horizons: tuple[int, int] = HORIZONS,
        folder: Any = None,
    ) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise unknown("kind of task", kind, KINDS)
        self.kinds, self.horizons, self._folder = tuple(kinds), horizons, folder
        self._kind_odds = _odds([KINDS[kind][1] for kind in kinds])
        self._optimizer_odds = _odds([_WEIGHTS.get(name, 1) for name in OPTIMIZERS])

    def __call__(self, rng: np.random.Generator) -> Setting:
        """Return the next training."""
        kind = self.kinds[rng.choice(len(self.kinds), p=self._kind_odds)]
        name, options = KINDS[kind][0](rng)
        if options["data"] in ("housing", "wikitext"):
            options["folder"] = self._folder
        optimizer = list(OPTIMIZERS)[rng.choice(len(OPTIMIZERS), p=self._optimizer_odds)]
        least, most = self.horizons
        most = most if kind in CHEAP else max(least, most // 3)
        low, high = math.log(least), math.log(most)
        steps = round(math.exp(rng.uniform(low, high)))
        if options["data"] in ENDLESS and rng.random() < FRESH:
            rows = math.ceil(steps * options["batch_size"] / (1.0 - HELD_OUT))
            option, fewest = ENDLESS[options["data"]]
            options[option] = min(MOST_ROWS, max(fewest, rows))
        noise = Noise()
        if rng.random() < 0.25:
            noise = Noise("gaussian", str(rng.choice(["gradient", "data"])))
        shown = ", ".join(f"{key}={value}" for key, value in options.items() if key != "folder")
        task = held_apart(family(name, **options), MOST_HELD_OUT)
        rows = len(task.data_for(0)[0]) - task.held_out
        epoch = max(1, round(rows / task.batch_size))
        told = Outlook(
            None,
            epoch if rng.random() < TOLD else None,
            batch_size=task.batch_size if rng.random() < BATCH_TOLD else None,
        )
        return Setting(
            task,
            OPTIMIZERS[optimizer],
            steps,
            noise,
            f"{name}({shown}), {optimizer}, {steps} steps, noise {noise.kind} {noise.place}",
            told,
        )


def held_apart(task: Task, most: int | None = None) -> Task:
    """Return the task with a share of its rows kept from training, at most so many."""
    apart = int(HELD_OUT * len(task.data_for(0)[0]))
    return replace(task, held_out=apart if most is None else min(most, apart))


def _odds(weights: Sequence[int]) -> list[float]:
    return [weight / sum(weights) for weight in weights]
