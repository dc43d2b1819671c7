"""Convolutional networks on images: digits, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ratewise.compare.task import Batch, Task
from ratewise.compare.tasks import parts
from ratewise.data import sets
from ratewise.models import dense, vision


def digits_cnn(preset: str, data: Path | None) -> Task:
    """Scikit-learn's 8x8 digits by a small convolutional network."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16).float().view(-1, 1, 8, 8)
    channels = (1, 8, 16) if preset == "small" else (1, 32, 64)
    return parts.classification(
        "digits-cnn",
        preset,
        parts.split((images, torch.tensor(y))),
        functools.partial(vision.ConvNet, channels, 8, 10),
        batch_size=32,
    )


def fashion_cnn(preset: str, data: Path | None) -> Task:
    """Fashion-MNIST: 60,000 + 10,000 images; the official test part is the test part."""
    (images, labels), (test_images, test_labels) = sets.fashion(data)
    small = preset == "small"
    shrink = 2 if small else 1
    split = _held_out((images[:, None], labels), (test_images[:, None], test_labels), small, shrink)
    channels, size = ((1, 8, 16), 14) if small else ((1, 32, 64, 128), 28)
    model = functools.partial(vision.ConvNet, channels, size, 10)
    return parts.classification(
        "fashion-cnn", preset, split, model, batch_size=32 if small else 128
    )


def fashion_mlp(preset: str, data: Path | None) -> Task:
    """Fashion-MNIST by a perceptron on the pixels, at 14x14 in the small preset."""
    (images, labels), (test_images, test_labels) = sets.fashion(data)
    small = preset == "small"
    shrink = 2 if small else 1
    split = _held_out((images[:, None], labels), (test_images[:, None], test_labels), small, shrink)
    widths = (14 * 14, 32, 10) if small else (28 * 28, 512, 256, 10)
    return parts.classification(
        "fashion-mlp", preset, split, functools.partial(_flat_mlp, *widths), 32
    )


def cifar_cnn(preset: str, data: Path | None) -> Task:
    """CIFAR-10 by a plain convolutional network, at 16x16 in the small preset."""
    train, test = sets.cifar(data)
    small = preset == "small"
    split = _held_out(train, test, small, 2 if small else 1)
    channels, size = ((3, 8, 16), 16) if small else ((3, 32, 64, 128), 32)
    model = functools.partial(vision.ConvNet, channels, size, 10)
    return parts.classification("cifar-cnn", preset, split, model, batch_size=32 if small else 128)


def _flat_mlp(*widths: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *dense.mlp(*widths))


def cifar_resnet(preset: str, data: Path | None) -> Task:
    """CIFAR-10 by a small residual network, at 16x16 in the small preset."""
    train, test = sets.cifar(data)
    small = preset == "small"
    split = _held_out(train, test, small, 2 if small else 1)
    widths = (8, 16) if small else (32, 64, 128)
    model = functools.partial(vision.ResNet, widths, 10)
    return parts.classification(
        "cifar-resnet", preset, split, model, batch_size=16 if small else 128
    )


def _held_out(train: Any, test: Any, small: bool, shrink: int) -> tuple[Batch, Batch, Batch]:
    """Return the parts: the test part is the official one, validation a tenth of the rest."""
    order = parts.shuffled(len(train[0])).numpy()
    held, chosen = np.split(order, [len(order) // 10])
    limit = 600 if small else None
    (x, y), (x_held, y_held), (x_test, y_test) = (
        _tensors(images[index], labels[index], shrink)
        for (images, labels), index in (
            (train, chosen[: 20_000 if small else None]),
            (train, held[:limit]),
            (test, parts.shuffled(len(test[0])).numpy()[:limit]),
        )
    )
    mean, deviation = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    scaled = ((images - mean) / deviation for images in (x, x_held, x_test))
    return tuple(zip(scaled, (y, y_held, y_test), strict=True))  # type: ignore[return-value]


def _tensors(images: Any, labels: Any, shrink: int) -> tuple[Tensor, Tensor]:
    x = torch.tensor(images).float() / 255
    if shrink > 1:
        x = nn.functional.avg_pool2d(x, shrink)
    return x, torch.tensor(labels).long()
