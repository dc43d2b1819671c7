"""CIFAR-10 in three layouts: one .npz, the official binary version, the official Python version.

The Python version is a pickle. It is read by an unpickler that admits byte strings, numbers and
the one NumPy function that rebuilds an array, so a foreign file cannot run anything.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
_RECORD = 1 + 3 * 32 * 32


def read_cifar(path: Path) -> tuple[Part, Part]:
    """Return the train and the test part: images [n, 3, 32, 32] uint8 and labels [n].

    Args:
        path: an .npz with train_images, train_labels, test_images, test_labels (images
            [n, 32, 32, 3]), a folder of data_batch_*.bin, or one of data_batch_* pickles.

    Raises:
        CorruptData: a file is missing, cut short or not of its format; the error names it.
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
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptData(f"{path} is cut short or no .npz ({error}): fetch it again") from error
    parts = []
    for part in ("train", "test"):
        try:
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        except KeyError as error:
            raise CorruptData(f"{path} has no array {error}, it has {sorted(arrays)}") from error
        if images.shape != (len(labels), 32, 32, 3):
            raise CorruptData(f"{path}: {part}_images has shape {images.shape}, not (n, 32, 32, 3)")
        parts.append((np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64)))
    return parts[0], parts[1]


def _read_bin(path: Path) -> Part:
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % _RECORD:
        raise CorruptData(f"{path} holds {raw.size} bytes, not a multiple of {_RECORD}")
    records = raw.reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Admits what the official files hold, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "_reconstruct": np.empty(0).__reduce__()[0],
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.split(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        raise CorruptData(f"a CIFAR-10 file asks for {module}.{name}, which is not read")


def _read_python(path: Path) -> Part:
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"{path} is cut short or no CIFAR-10 batch ({error})") from error
    return images, labels
