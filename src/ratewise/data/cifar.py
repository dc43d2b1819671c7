"""CIFAR-10 in three layouts: one .npz, the official binary version, the official Python version.

A file from a stranger is safe to read: nothing in it is run, unpickled or taken for a pointer, no
more memory is used than it has bytes for (`contents.MOST`), and what comes out are images of bytes
and labels from 0 to 9. The Python version's pickles are read as data by `batches`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.data.batches import read_batch
from ratewise.errors import CorruptData
from ratewise.files.arrays import read_arrays
from ratewise.files.contents import contents

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
_RECORD = 1 + 3 * 32 * 32
_CLASSES = 10


def read_cifar(path: Path) -> tuple[Part, Part]:
    """Return the train and the test part: images [n, 3, 32, 32] uint8 and labels [n], 0 to 9.

    Args:
        path: an .npz with train_images, train_labels, test_images, test_labels (images
            [n, 32, 32, 3]), a folder of data_batch_*.bin, or one of data_batch_* pickles.

    Raises:
        CorruptData: a file is missing, cut short or not of its format, its images are not bytes
            or its labels no classes; the error names it.
    """
    if path.suffix == ".npz":
        return _read_npz(path)
    suffix, read = (".bin", _read_bin) if (path / "test_batch.bin").exists() else ("", _read_python)
    train = [read(file) for file in sorted(path.glob(f"data_batch_[1-5]{suffix}"))]
    if not train or not (path / f"test_batch{suffix}").exists():
        raise CorruptData(f"{path} lacks data_batch_*{suffix} or test_batch{suffix}")
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return (images, labels), read(path / f"test_batch{suffix}")


def _read_npz(path: Path) -> tuple[Part, Part]:
    names = [f"{part}_{kind}" for part in ("train", "test") for kind in ("images", "labels")]
    arrays = read_arrays(path, names)
    for name in names:
        if name not in arrays:
            raise CorruptData(f"{path} has no array {name!r}: save one of that name")
    parts = []
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        if images.ndim != 4 or images.shape[1:] != (32, 32, 3):
            raise CorruptData(f"{path}: {part}_images has shape {images.shape}, not (n, 32, 32, 3)")
        first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        parts.append(_checked(path, first, arrays[f"{part}_labels"]))
    return parts[0], parts[1]


def _read_bin(path: Path) -> Part:
    raw = np.frombuffer(contents(path), np.uint8)
    if raw.size == 0 or raw.size % _RECORD:
        raise CorruptData(f"{path} holds {raw.size} bytes, not a multiple of {_RECORD}")
    records = raw.reshape(-1, _RECORD)
    return _checked(path, records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])


def _read_python(path: Path) -> Part:
    try:
        batch = read_batch(contents(path))
    except CorruptData as error:
        raise CorruptData(f"{path}: {error}") from error
    images, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(images, np.ndarray) or images.shape[1:] != (_RECORD - 1,):
        raise CorruptData(f"{path} has no array `data` of {_RECORD - 1} bytes an image")
    if type(labels) is list:
        if not all(type(label) is int and 0 <= label < _CLASSES for label in labels):
            raise CorruptData(f"{path}: `labels` are not integers from 0 to {_CLASSES - 1}")
        labels = np.array(labels, np.int64)
    if not isinstance(labels, np.ndarray):
        raise CorruptData(f"{path} has no list `labels`")
    return _checked(path, images.reshape(-1, 3, 32, 32), labels)


def _checked(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> Part:
    """Return images and labels, or say which of them are none."""
    if images.dtype != np.uint8 or not len(images):
        raise CorruptData(f"{path} has {len(images)} images of {images.dtype}, not n >= 1 of uint8")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        found = f"{labels.dtype} of shape {labels.shape}"
        raise CorruptData(f"{path} has labels of {found}, not one integer for each image")
    if labels.min() < 0 or labels.max() >= _CLASSES:
        found = f"{labels.min()} to {labels.max()}"
        raise CorruptData(f"{path} has labels from {found}, not from 0 to {_CLASSES - 1}")
    return np.require(images, requirements="W"), labels.astype(np.int64)
