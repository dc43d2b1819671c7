"""IDX files (MNIST, Fashion-MNIST), plain or gzipped, as torchvision lays them out."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData
from ratewise.files.contents import contents, unpacked


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file in the shape that its header gives.

    Raises:
        CorruptData: not gzip though it is called so, cut short, not an IDX file of bytes, or of
            more than `contents.MOST` bytes when unpacked.
    """
    raw = unpacked(path) if path.suffix == ".gz" else contents(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != 8 or not 1 <= raw[3] <= 4:
        raise CorruptData(f"{path} is not an IDX file of bytes: it begins with {raw[:4].hex()}")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise CorruptData(f"{path} is cut short within its header: fetch it again")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    if len(raw) != header + math.prod(shape):
        raise CorruptData(
            f"{path} should hold {math.prod(shape)} bytes for shape {shape}, "
            f"and holds {len(raw) - header}: fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
