"""Real data, small: at most 2,048 rows, shuffled with one seed, standardised, read once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ratewise.data import sets
from ratewise.data.locate import folder as located
from ratewise.data.text import encode, windows
from ratewise.errors import extra_named, unknown
from ratewise.simulate.families.parts import Source, cross_entropy, squared_error

#: The order is a property of the data, not of a run: the seed never changes.
SHUFFLE_SEED = 20231
MOST_ROWS = 2048
#: And at most so many are asked for.
LARGEST = 1_000_000

VECTORS = ("digits", "breast-cancer", "wine", "diabetes", "housing")
IMAGES = ("digits", "fashion")
TEXTS = ("pydoc", "shakespeare", "wikitext")


def vectors(data: str, folder: str | Path | None) -> Source:
    """Return a table, one of `VECTORS`: columns standardised, but of digits all alike.

    Args:
        data: its name.
        folder: the data folder, here and below; None takes the environment variable.

    Raises:
        MissingExtra: it comes with scikit-learn, which is not installed.
        MissingData, CorruptData: its file is absent or damaged.
    """
    return _vectors(data, located(folder) if data == "housing" else None)


def images(data: str, folder: str | Path | None) -> Source:
    """Return images [n, 1, size, size], one of `IMAGES`, standardised over all their pixels.

    Fashion-MNIST is halved by averaging, and its middle 12x12 pixels are taken.

    Raises:
        MissingExtra, MissingData, CorruptData: as `vectors`.
    """
    x, labels = _pixels(data, located(folder) if data == "fashion" else None)
    return Source(data, (x[:, None], labels), len(x), (1, *x.shape[1:]), 10)


def rows() -> Source:
    """Return digits as sequences of eight rows of eight pixels.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    x, labels = _pixels("digits", None)
    return Source("digits", (x, labels), len(x), (8, 8), 10)


def text(
    data: str, length: int, follows: bool, folder: str | Path | None, rows: int = MOST_ROWS
) -> Source:
    """Return codes [rows, length] of a text, one of `TEXTS`, and the characters that come next.

    Args:
        data: its name.
        length: characters a row.
        follows: ask for the next character only after the last one, targets [n]; otherwise
            after each, targets [n, length].
        folder: the data folder.
        rows: at most so many, spread over the text.

    Raises:
        MissingData, CorruptData: its file is absent or damaged.
    """
    return _text(data, length, follows, None if data == "pydoc" else located(folder), rows)


@functools.lru_cache(maxsize=8)
def _vectors(data: str, folder: Path | None) -> Source:
    if data == "digits":
        inputs, labels = _pixels("digits", None)
        return Source("digits", (inputs.flatten(1), labels), len(inputs), (64,), 10)
    if data == "housing":
        x, y = sets.housing(folder)
    else:
        x, y = _bundled(data)
    x, y = x[(order := _order(len(x)))], y[order]
    x = np.where(np.isnan(x), np.nanmedian(x, axis=0), x)
    inputs = torch.from_numpy((x - x.mean(0)) / np.maximum(x.std(0), 1e-6)).float()
    if y.dtype.kind == "f":  # a real target
        targets = torch.from_numpy((y - y.mean()) / y.std()).float()
        return Source(data, (inputs, targets), len(x), inputs.shape[1:], 1, loss=squared_error)
    labels = torch.from_numpy(y).long()
    return Source(data, (inputs, labels), len(x), inputs.shape[1:], int(y.max()) + 1)


@functools.lru_cache(maxsize=8)
def _pixels(data: str, folder: Path | None) -> tuple[Tensor, Tensor]:
    """Return images [n, size, size] and labels [n]."""
    if data == "digits":
        pixels, y = _bundled("digits")
        x = torch.from_numpy(pixels[(order := _order(len(pixels)))]).float().view(-1, 8, 8)
    else:
        (pixels, y), _ = sets.fashion(folder)
        order = _order(len(pixels))
        x = avg_pool2d(torch.from_numpy(pixels[order]).float(), 2)[:, 1:13, 1:13]
    labels = torch.from_numpy(y[order].astype(np.int64))
    return ((x - x.mean()) / x.std()).contiguous(), labels


@functools.lru_cache(maxsize=8)
def _text(data: str, length: int, follows: bool, folder: Path | None, rows: int) -> Source:
    if data == "pydoc":
        characters = sets.pydoc()
    elif data == "shakespeare":
        characters = sets.shakespeare(folder)
    else:
        characters = sets.wikitext(folder)
    codes, alphabet = encode(characters)
    cut = windows(codes, length, rows)
    cut = cut[torch.from_numpy(_order(len(cut), rows))]
    inputs, targets = cut[:, :-1].contiguous(), cut[:, -1 if follows else slice(1, None)]
    parts: tuple[Tensor, Tensor] = inputs, targets.contiguous()
    return Source(data, parts, len(cut), (length,), alphabet, alphabet, cross_entropy)


def _order(count: int, most: int = MOST_ROWS) -> np.ndarray:
    generator = torch.Generator().manual_seed(SHUFFLE_SEED)
    return torch.randperm(count, generator=generator)[:most].numpy()


def _bundled(data: str) -> Any:
    """Return the features and targets of a set that comes with scikit-learn."""
    with extra_named(f"the data {data!r}", "compare"):
        from sklearn import datasets
    load = {
        "digits": datasets.load_digits,
        "breast-cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
    }
    return load[data](return_X_y=True)


def check_data(data: Any, known: tuple[str, ...]) -> None:
    """Raise unless the option `data` names one of these."""
    if not isinstance(data, str) or data not in known:
        raise unknown("data", data, known)
