"""NumPy's files, npy and npz: arrays of numbers and of short texts, and nothing else.

NumPy reads them, too, but evaluates the header as Python's literals, reserves the memory that the
header asks for before it looks at what the file holds, and lets the errors of zip through as they
come. Here a header is matched, not evaluated; an array is no larger than what the file holds for
it; what is compressed may unpack to so many bytes; and all else is one named error.

Source: numpy.lib.format, versions 1.0 and 2.0 of the format.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData
from ratewise.files import contents

_MAGIC = b"\x93NUMPY"
#: Booleans, integers, floats, complex numbers, byte strings and strings.
_DTYPE = re.compile(r"'descr'\s*:\s*'([<>|=]?[biufcSU]\d{1,4})'")
_ORDER = re.compile(r"'fortran_order'\s*:\s*(True|False)\b")
_SHAPE = re.compile(r"'shape'\s*:\s*\(((?:\s*\d{1,19}L?\s*,)*(?:\s*\d{1,19}L?)?)\s*\)")
#: What zip files that are damaged make Python's zipfile raise.
_DAMAGED = (
    OSError, ValueError, EOFError, OverflowError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
_ENCRYPTED = 0x1
_CHUNK = 1 << 20


class NpyHeader(NamedTuple):
    """How the bytes of an array are to be read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str  #: "C" or "F"

    @property
    def size(self) -> int:
        """Bytes that the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(
    path: Path, names: Iterable[str] | None = None, most: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return arrays of an npz file, by name.

    Args:
        path: the file.
        names: of the arrays to be read; those that it lacks are left out. None reads all.
        most: bytes that compressed arrays may unpack to, together; None is `contents.MOST`.
            What is not compressed is bounded by the file's own size.

    Raises:
        CorruptData: not an npz file, damaged, encrypted, too large, or with an array of objects.
    """
    contents.check_regular(path)
    most = contents.MOST if most is None else most
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            wanted = set(members if names is None else names) & set(members)
            _check_sizes(path, [members[name] for name in wanted], most)
            return {name: _member(path, archive, members[name]) for name in sorted(wanted)}
    except _DAMAGED as error:
        if isinstance(error, CorruptData):
            raise
        raise CorruptData(f"{path} is cut short or no .npz ({contents.shown(error)})") from error


def array_names(path: Path) -> list[str]:
    """Return the names of an npz file's arrays, in their order.

    Raises:
        CorruptData: not an npz file, or damaged.
    """
    contents.check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_members(path, archive))
    except _DAMAGED as error:
        raise CorruptData(f"{path} is cut short or no .npz ({contents.shown(error)})") from error


def map_array(path: Path) -> NDArray[Any]:
    """Return the array of an npy file, mapped into memory and read-only.

    Raises:
        CorruptData: not an npy file, cut short, or with objects.
    """
    contents.check_regular(path)
    try:
        with path.open("rb") as file:
            header = read_header(file)
            start = file.tell()
        held = path.stat().st_size - start
        if header.size > held:
            raise ValueError(f"shape {header.shape} needs {header.size:,} bytes, it holds {held:,}")
        if not header.size:
            return np.empty(header.shape, header.dtype)
        order: Any = header.order
        return np.memmap(path, header.dtype, "r", start, header.shape, order)
    except (OSError, ValueError, OverflowError) as error:
        raise CorruptData(f"{path} cannot be read as .npy: {contents.shown(error)}") from error


def read_header(file: IO[bytes]) -> NpyHeader:
    """Return the header of an array in npy's format, at which a file stands.

    Raises:
        ValueError: it is none, or not of an array of numbers or texts; the message says why.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != _MAGIC:
        raise ValueError("it does not begin as an array of NumPy's")
    wide = {1: "<H", 2: "<I"}.get(start[6])
    if wide is None:
        raise ValueError(f"version {start[6]} of the format is not one of numbers")
    length = file.read(struct.calcsize(wide))
    if len(length) < struct.calcsize(wide):
        raise ValueError("it is cut short within its header")
    (count,) = struct.unpack(wide, length)
    if count > 1 << 16:
        raise ValueError(f"a header of {count:,} bytes")
    text = file.read(count).decode("latin-1")
    if re.search(r"'descr'\s*:\s*'\|?O", text):
        raise ValueError("it holds objects, which are not read: save an array of numbers")
    found = [pattern.findall(text) for pattern in (_DTYPE, _ORDER, _SHAPE)]
    if len(text) < count or [len(matches) for matches in found] != [1, 1, 1]:
        raise ValueError("its header is not that of an array of numbers")
    (descr,), (fortran,), (lengths,) = found
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"there is no type {descr}") from error
    shape = tuple(int(n.strip().rstrip("L")) for n in lengths.split(",") if n.strip())
    if not dtype.itemsize or len(shape) > 32:
        raise ValueError(f"an array of {len(shape)} dimensions of {descr}")
    return NpyHeader(dtype, shape, "F" if fortran == "True" else "C")


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays' entries by name; two of one name are an error."""
    entries = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        name = info.filename.removesuffix(".npy")
        if name in entries:
            raise CorruptData(f"{path} has two arrays of the name {contents.shown(name)!r}")
        entries[name] = info
    return entries


def _check_sizes(path: Path, infos: list[zipfile.ZipInfo], most: int) -> None:
    """Raise unless what is to be read is as large as may be, by what the archive says of it."""
    held = path.stat().st_size
    total = 0
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            raise CorruptData(f"{path}: {_named(info)} is encrypted, which is not read")
        if info.compress_type == zipfile.ZIP_STORED:
            if info.file_size > held:
                raise CorruptData(f"{path}: {_named(info)} is larger than the file")
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            total += info.file_size
        else:
            kind = f"compressed by method {info.compress_type}"
            raise CorruptData(f"{path}: {_named(info)} is {kind}: save it with numpy.savez")
    if total > most:
        raise contents.too_large(
            path, f"unpacks to {total:,} bytes (save it without compression)", most
        )


def _named(info: zipfile.ZipInfo) -> str:
    return repr(contents.shown(info.filename))


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Return one array, of the machine's own byte order."""
    try:
        with archive.open(info) as file:
            header = read_header(file)
            held = info.file_size - file.tell()
            if header.size != held:
                size = f"shape {header.shape} needs {header.size:,} bytes, it holds {held:,}"
                raise ValueError(size)
            raw = np.empty(held, np.uint8)
            done = 0
            while part := file.read(_CHUNK):  # to the end, where the checksum is compared
                raw[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done += len(part)
            if done < held:
                raise ValueError("it is cut short")
    except _DAMAGED as error:
        raise CorruptData(f"{path}: array {_named(info)}: {contents.shown(error)}") from error
    order: Any = header.order
    array = raw.view(header.dtype).reshape(header.shape, order=order)
    return array.astype(header.dtype.newbyteorder("="), copy=False)
