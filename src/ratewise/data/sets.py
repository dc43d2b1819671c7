"""The data sets: where each lies below the data folder, and how it is read."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratewise.data.cifar import Part, read_cifar
from ratewise.data.housing import read_housing
from ratewise.data.idx import read_idx
from ratewise.data.locate import find
from ratewise.data.matrices import read_expression, read_faces, read_signals
from ratewise.data.text import read_sentences, read_text
from ratewise.errors import CorruptData

Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def fashion(data: str | Path | None) -> tuple[Images, Images]:
    """Return Fashion-MNIST's train and test part: images [n, 28, 28] and labels [n], as bytes.

    Args:
        data: the data folder, here and below; None takes the environment variable.

    Raises:
        MissingData, CorruptData: a file is absent or damaged.
    """
    arrays = []
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        folders = ("FashionMNIST/raw/", "fashion-mnist/", "fashion/", "")
        candidates = [f"{folder}{name}-ubyte{end}" for folder in folders for end in (".gz", "")]
        how = "torchvision.datasets.FashionMNIST(root, download=True), or its four IDX files"
        arrays.append(read_idx(find(f"Fashion-MNIST's {name}", candidates, how, data)))
    images, labels, test_images, test_labels = arrays
    for x, y in ((images, labels), (test_images, test_labels)):
        if x.shape != (len(y), 28, 28) or y.ndim != 1 or not len(y):
            found = f"images {x.shape} and labels {y.shape}"
            raise CorruptData(f"Fashion-MNIST: {found}, not (n, 28, 28) and (n,): fetch it again")
        if y.max() > 9:
            raise CorruptData(f"Fashion-MNIST: a label of {y.max()}, not 0 to 9: fetch it again")
    return (images, labels), (test_images, test_labels)


def cifar(data: str | Path | None) -> tuple[Part, Part]:
    """Return CIFAR-10's train and test part: images [n, 3, 32, 32] and labels [n].

    Raises:
        MissingData, CorruptData: a file is absent or damaged.
    """
    candidates = (
        "cifar10/cifar10-12k.npz",
        "cifar10.npz",
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
    )
    how = "torchvision.datasets.CIFAR10(root, download=True), or the binary version from its page"
    return read_cifar(find("CIFAR-10", candidates, how, data))


def housing(data: str | Path | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return California housing: features [n, 8 or 13], NaN where one is missing, values [n].

    Raises:
        MissingData, CorruptData: the file is absent or damaged.
    """
    candidates = (
        "california-housing/housing.csv",
        "housing.csv",
        "CaliforniaHousing/cal_housing.data",
    )
    how = "StatLib's houses data as a csv with a header (github.com/ageron/data, housing)"
    return read_housing(find("California housing", candidates, how, data))


def shakespeare(data: str | Path | None) -> str:
    """Return tiny Shakespeare, a million characters.

    Raises:
        MissingData, CorruptData: the file is absent or cut short.
    """
    candidates = ("tinyshakespeare/input.txt", "shakespeare_char/input.txt", "input.txt")
    how = "input.txt of karpathy/char-rnn, data/tinyshakespeare"
    return read_text(find("tiny Shakespeare", candidates, how, data))


def wikitext(data: str | Path | None) -> str:
    """Return the validation part of WikiText-2, a million characters, without its rare letters.

    Raises:
        MissingData, CorruptData: the file is absent or cut short.
    """
    candidates = ("wikitext-2/valid.txt", "wikitext-2/wiki.valid.tokens", "wiki.valid.tokens")
    how = "the raw or tokenised WikiText-2 of Merity et al. (2016)"
    return _printable(read_text(find("WikiText-2's validation part", candidates, how, data)))


def kjv(data: str | Path | None) -> str:
    """Return the King James Version of the Bible, four million characters.

    Raises:
        MissingData, CorruptData: the file is absent or cut short.
    """
    how = "Debian's bible-kjv-text, without the verses' numbers"
    return read_text(find("the King James Version", ("kjv/kjv.txt", "kjv.txt"), how, data))


def polarity(data: str | Path | None) -> tuple[list[str], list[int]]:
    """Return sentences from film reviews, with labels: positive (1) or negative (0).

    Raises:
        MissingData, CorruptData: a file is absent or cut short.
    """
    sentences: list[str] = []
    labels: list[int] = []
    for label, end in enumerate(("neg", "pos")):
        candidates = (f"rt-polarity/rt-polarity.{end}", f"rt-polaritydata/rt-polarity.{end}")
        how = "Pang and Lee's sentence polarity dataset v1.0"
        lines = read_sentences(
            find(f"sentence polarity's rt-polarity.{end}", candidates, how, data)
        )
        sentences += lines
        labels += [label] * len(lines)
    return sentences, labels


def mnist1d(data: str | Path | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return MNIST-1D: signals [n, 40] of ten classes, the train part first, and labels [n].

    Raises:
        MissingData, CorruptData: the file is absent or damaged.
    """
    how = (
        "the generator of Greydanus and Kobak (2020), as npz with train_x, train_y, test_x, test_y"
    )
    candidates = ("mnist1d/mnist1d-40k.npz", "mnist1d.npz")
    return read_signals(find("MNIST-1D", candidates, how, data))


def faces(data: str | Path | None) -> NDArray[np.uint8]:
    """Return the ORL faces: images [400, 112, 92], as bytes.

    Raises:
        MissingData, CorruptData: the file is absent or damaged.
    """
    candidates = ("orl-faces/orl-faces.npz", "orl-faces.npz")
    how = "AT&T Laboratories Cambridge's Database of Faces, as npz with an array `images`"
    return read_faces(find("the ORL faces", candidates, how, data))


def leukemia(data: str | Path | None) -> NDArray[np.float64]:
    """Return ALL-AML gene expression: [5000 genes, 38 samples], >= 0.

    Raises:
        MissingData, CorruptData: the file is absent or damaged.
    """
    candidates = ("all-aml/ALL_AML_data.txt", "ALL_AML_data.txt")
    how = "the data of Brunet et al. (2004), ALL_AML_data.txt"
    return read_expression(find("ALL-AML gene expression", candidates, how, data))


def pydoc() -> str:
    """Return the language reference that ships with CPython (`pydoc` topics)."""
    from pydoc_data.topics import topics

    # Topics share paragraphs: kept once, so that none is both trained on and judged on.
    paragraphs = [part for name in sorted(topics) for part in topics[name].split("\n\n")]
    return _printable("\n\n".join(dict.fromkeys(part.strip("\n") for part in paragraphs)))


def _printable(text: str) -> str:
    return "".join(char for char in text if char in string.printable)
