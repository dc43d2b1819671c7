"""The contents of a regular file, plain or gzipped, of limited size; else a named error."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ratewise.errors import CorruptData

#: Bytes that a file may hold, and may hold once it is unpacked, where a reader says nothing else.
MOST = 1 << 30
_CHUNK = 1 << 20


def contents(path: Path, most: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        most: bytes that it may hold; None is `MOST`.

    Raises:
        CorruptData: no regular file (a folder, a pipe, a device), one that cannot be opened, or
            one that is larger.
    """
    most = MOST if most is None else most
    check_regular(path)
    try:
        size = path.stat().st_size
        if size > most:
            raise too_large(path, f"holds {size:,} bytes", most)
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def unpacked(path: Path) -> bytes:
    """Return the contents of a gzipped file, unpacking at most `MOST` bytes.

    Raises:
        CorruptData: as `contents`, or the file is cut short or not gzip.
    """
    check_regular(path)
    found = bytearray()
    try:
        with gzip.open(path) as file:
            while part := file.read(_CHUNK):
                found += part
                if len(found) > MOST:
                    raise too_large(path, "unpacks to more", MOST)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptData(f"{path} cannot be unpacked ({shown(error)}): fetch it again") from error
    return bytes(found)


def decoded(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without its mark.

    Raises:
        CorruptData: as `contents`, or it is in another encoding; the error says at which byte.
    """
    try:
        return contents(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        raise CorruptData(f"{path} is not in UTF-8 ({where}): save it as UTF-8") from error


def check_regular(path: Path) -> None:
    """Raise unless this is a regular file: no folder, pipe or device.

    Raises:
        CorruptData: it is none.
    """
    try:
        regular = path.is_file()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not regular:
        kind = "is a folder" if path.is_dir() else "is missing or no regular file"
        raise CorruptData(f"{path} {kind}: name a file")


def unreadable(path: Path, error: Exception) -> CorruptData:
    """Return the error for a file that cannot be read."""
    return CorruptData(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def too_large(path: Path, found: str, most: int) -> CorruptData:
    """Return the error for a file that is, packed or unpacked, larger than allowed."""
    return CorruptData(f"{path} {found}: at most {most:,} bytes are read of such a file")


def shown(text: object, most: int = 200) -> str:
    r"""Return text from a file in a form for messages: one line, short, printable.

    >>> shown("a\n\x1b[31mb")
    'a ?[31mb'
    """
    line = " ".join(str(text)[: 4 * most].split())
    return "".join(char if char.isprintable() else "?" for char in line)[:most]
