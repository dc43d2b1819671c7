"""Perceptrons on tables: digits, diabetes, breast cancer, California housing."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from ratewise.compare.task import Task
from ratewise.compare.tasks import parts
from ratewise.data import sets
from ratewise.models import dense


def digits_mlp(preset: str, data: Path | None) -> Task:
    """Scikit-learn's 8x8 digits, 1,797 of them, by a perceptron."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    split = parts.split((torch.tensor(x / 16).float(), torch.tensor(y)))
    small = preset == "small"
    model = functools.partial(dense.mlp, 64, 32 if small else 256, 10)
    return parts.classification("digits-mlp", preset, split, model, 32 if small else 64, 3000)


def breast_cancer_mlp(preset: str, data: Path | None) -> Task:
    """Breast cancer in Wisconsin: 569 samples of 30 features, two classes."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    raw = parts.split((torch.tensor(x), torch.tensor(y)))
    features = parts.standardised([part[0] for part in raw])
    train, validation, test = ((new, part[1]) for new, part in zip(features, raw, strict=True))
    split, small = (train, validation, test), preset == "small"
    model = functools.partial(dense.mlp, 30, 16 if small else 128, 2)
    return parts.classification(
        "breast-cancer-mlp", preset, split, model, 32 if small else 64, 3000
    )


def diabetes_mlp(preset: str, data: Path | None) -> Task:
    """Scikit-learn's diabetes table: 442 patients, disease progression after a year."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return _regression("diabetes-mlp", preset, torch.tensor(x), torch.tensor(y), 32, None)


def housing_mlp(preset: str, data: Path | None) -> Task:
    """California housing: 20,640 districts, median house value."""
    x, y = (torch.from_numpy(array) for array in sets.housing(data))
    return _regression("housing-mlp", preset, x, y, 64, 800 if preset == "small" else None)


def _regression(
    name: str, preset: str, x: Tensor, y: Tensor, width: int, held_out: int | None
) -> Task:
    split = parts.split((x, y[:, None]))
    columns = [parts.standardised([part[i] for part in split]) for i in (0, 1)]
    train, validation, test = (
        (inputs, targets[:, 0]) for inputs, targets in zip(*columns, strict=True)
    )
    if held_out is not None:
        validation, test = (tuple(x[:held_out] for x in part) for part in (validation, test))
    small = preset == "small"
    return Task(
        name=name,
        model=functools.partial(dense.mlp, x.shape[1], width if small else 4 * width, 1),
        loss=parts.squared_error,
        metric=parts.absolute_error,
        metric_name="absolute error",
        metric_mode="min",
        train=train,
        validation=validation,
        test=test,
        steps=300 if small else 3000,
        batch_size=32 if small else 128,
        preset=preset,
    )
