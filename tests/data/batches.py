"""CIFAR-10 batches as pickles, byte by byte: the official form, and forms made to do harm."""

from __future__ import annotations

import struct

import numpy as np


def name(module: bytes, name: bytes) -> bytes:
    return b"c" + module + b"\n" + name + b"\n"


def text(value: bytes) -> bytes:
    """A string of Python 2's."""
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def dtype(code: bytes, state: bytes) -> bytes:
    return name(b"numpy", b"dtype") + text(code) + b"K\x00K\x01\x87R" + state + b"b"


#: Of one byte an item, as every official file has it.
BYTES = b"(K\x03" + text(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\x00t"


def array(shape: bytes, kind: bytes, raw: bytes, core: bytes = b"numpy.core.multiarray") -> bytes:
    begin = name(core, b"_reconstruct") + name(b"numpy", b"ndarray") + b"K\x00\x85" + text(b"b")
    return begin + b"\x87R(K\x01" + shape + kind + b"\x89" + text(raw) + b"tb"


def batch(labels: bytes, images: bytes, more: bytes = b"") -> bytes:
    return b"\x80\x02}(" + text(b"labels") + labels + text(b"data") + images + more + b"u."


def images(count: int, core: bytes = b"numpy.core.multiarray") -> tuple[np.ndarray, bytes]:
    """Images, [n, 3072], and their pickle."""
    values = np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8)
    shape = integer(count) + integer(3072) + b"\x86"
    return values, array(shape, dtype(b"u1", BYTES), values.tobytes(), core)


def labels(*values: int) -> bytes:
    return b"](" + b"".join(integer(value) for value in values) + b"e"


def official(count: int = 4) -> tuple[np.ndarray, bytes]:
    """A batch as the official files have it, with what is not read of it, too."""
    values, packed = images(count)
    files = b"](" + b"".join(text(b"%d.png" % n) for n in range(count)) + b"e"
    more = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"filenames") + files
    return values, batch(labels(*range(count)), packed, more)


def pointers(address: int = 0x4141414141414140, count: int = 3072) -> bytes:
    """A batch whose array says that its bytes are pointers to objects.

    NumPy's dtype takes from its state the fields, here one of objects, and the flags, here none:
    so the array takes its bytes as they are, and reading it goes where they point.
    """
    state = b"(K\x03" + text(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\x3ft"
    objects = dtype(b"O8", state)
    fields = b"(K\x03" + text(b"|") + b"N" + text(b"a") + b"\x85}" + text(b"a") + objects
    kind = dtype(b"V8", fields + b"K\x00\x86sK\x08K\x01K\x00t")
    raw = struct.pack("<Q", address) * count
    return batch(labels(1), array(integer(count) + b"\x85", kind, raw))
