"""Text: characters as numbers, and labelled sentences as bags of hashed words."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ratewise.errors import CorruptData
from ratewise.files.contents import contents

#: A text with fewer characters is taken to be cut short.
LEAST = 1000


def read_text(path: Path) -> str:
    """Return a text file, UTF-8 or else Latin-1.

    Raises:
        CorruptData: shorter than `LEAST` characters, too large, or no regular file.
    """
    raw = contents(path)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if len(text) < LEAST:
        raise CorruptData(
            f"{path} holds {len(text)} characters, fewer than {LEAST}: fetch it again"
        )
    return text


def encode(text: str) -> tuple[Tensor, int]:
    """Return the text as character numbers, [len(text)], and the size of its alphabet.

    >>> encode("abca")
    (tensor([0, 1, 2, 0]), 3)
    """
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    alphabet, codes = np.unique(points, return_inverse=True)
    return torch.from_numpy(codes.astype(np.int64)), len(alphabet)


def windows(codes: Tensor, length: int, count: int | None = None) -> Tensor:
    """Cut codes into rows of `length` + 1 that overlap by one: inputs and their successors.

    >>> windows(torch.arange(7), 3)
    tensor([[0, 1, 2, 3],
            [3, 4, 5, 6]])
    """
    rows = codes.unfold(0, length + 1, length)
    if count is not None and count < len(rows):  # spread over the whole text
        rows = rows[torch.linspace(0, len(rows) - 1, count).long()]
    return rows.contiguous()


def hashed_words(sentence: str, buckets: int, length: int) -> list[int]:
    """Return the bucket of each word, 1..buckets - 1, padded with 0 to `length`.

    The hash is CRC-32, the same in every process and on every machine.
    """
    words = sentence.split()[:length]
    codes = [1 + zlib.crc32(word.encode()) % (buckets - 1) for word in words]
    return codes + [0] * (length - len(codes))


def read_sentences(path: Path) -> list[str]:
    """Return the lines that are not empty."""
    return [line for line in read_text(path).splitlines() if line.strip()]
