"""Tasks on real data, by name: `names`, `load`, `requirements`.

Each has a ``small`` preset (300 steps of at most 5 ms on one core) and a ``full`` one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ratewise.compare.task import Task
from ratewise.compare.tasks import tabular, text, vision
from ratewise.data.locate import folder
from ratewise.errors import extra_named, unknown

PRESETS = ("small", "full")
BUNDLED = "bundled"

#: name, which begins with its data set -> (what it needs, builder of (preset, data folder))
_TASKS: dict[str, tuple[str, Callable[[str, Path | None], Task]]] = {
    "digits-mlp": (BUNDLED, tabular.digits_mlp),
    "diabetes-mlp": (BUNDLED, tabular.diabetes_mlp),
    "breast-cancer-mlp": (BUNDLED, tabular.breast_cancer_mlp),
    "digits-cnn": (BUNDLED, vision.digits_cnn),
    "pydoc-gru": (BUNDLED, text.pydoc_gru),
    "housing-mlp": ("california-housing/housing.csv", tabular.housing_mlp),
    "fashion-cnn": ("FashionMNIST/raw/*-ubyte[.gz]", vision.fashion_cnn),
    "fashion-mlp": ("FashionMNIST/raw/*-ubyte[.gz]", vision.fashion_mlp),
    "cifar-cnn": ("cifar10/*.npz or cifar-10-batches-bin/", vision.cifar_cnn),
    "cifar-resnet": ("cifar10/*.npz or cifar-10-batches-bin/", vision.cifar_resnet),
    "shakespeare-transformer": ("tinyshakespeare/input.txt", text.shakespeare_transformer),
    "wikitext-gru": ("wikitext-2/valid.txt", text.wikitext_gru),
    "polarity-text": ("rt-polarity/rt-polarity.{pos,neg}", text.polarity_text),
    "polarity-attention": ("rt-polarity/rt-polarity.{pos,neg}", text.polarity_attention),
}


def names() -> list[str]:
    """Return the names of all tasks, the bundled ones first.

    >>> "digits-mlp" in names()
    True
    """
    return list(_TASKS)


def requirements(name: str) -> str:
    """Return what a task needs below the data folder, or ``"bundled"``.

    >>> requirements("digits-mlp")
    'bundled'
    """
    return _entry(name)[0]


def load(name: str, preset: str = "small", data: str | Path | None = None) -> Task:
    """Return a task with its data read; a second call in the same process is free.

    Args:
        name: one of `names()`.
        preset: ``"small"`` or ``"full"``.
        data: the data folder; None takes the environment variable RATEWISE_DATA.

    Raises:
        UnknownName: no such task or preset.
        MissingData, CorruptData: its data set is absent or damaged.
        MissingExtra: it comes with scikit-learn, which is not installed.

    >>> task = load("digits-mlp")
    >>> task.steps, [len(part[0]) for part in (task.train, task.validation, task.test)]
    (300, [1078, 359, 360])
    """
    build = _entry(name)[1]
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    # The folder is part of the key: the environment may name another one by the next call.
    return _cached(name, build, preset, folder(data))


def _entry(name: str) -> tuple[str, Callable[[str, Path | None], Task]]:
    if name not in _TASKS:
        raise unknown("task", name, _TASKS)
    return _TASKS[name]


@functools.lru_cache(maxsize=32)
def _cached(
    name: str, build: Callable[[str, Path | None], Task], preset: str, data: Path | None
) -> Task:
    with extra_named(f"the task {name!r}", "compare"):
        task = build(preset, data)
    return replace(task, data_set=name.rpartition("-")[0])
