"""Write files completely or not at all: to a temporary file, synced, then renamed."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from ratewise.errors import CannotWrite, RatewiseError

#: What the name of an unfinished file begins with; the number of its process follows.
UNFINISHED = ".tmp-"
_OURS = re.compile(re.escape(UNFINISHED) + r"(\d+)-\d+-")
_cleaned: set[Path] = set()


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it takes the place of `path` when the block ends.

    If the block raises, if the disk is full or the process is killed, `path` is as it was. What
    is left then goes at once, or, after a kill, when a later process first writes in that folder.

    Args:
        path: the file; its folder is made if it does not exist.

    Raises:
        CannotWrite: the file system refused, or there is no room.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "page.md"
    >>> with whole(path) as temporary:
    ...     _ = temporary.write_text("done")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('done', 1)
    """
    path = Path(path)
    # without the suffix: nobody takes it for a file of that kind
    temporary = path.with_name(unfinished(path.stem))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _cleaned:
            clean(path.parent)
            _cleaned.add(path.parent)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, RatewiseError):
            raise CannotWrite.of(path, error.strerror or str(error)) from error
        raise
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # the name lasts, too
        finally:
            os.close(handle)


def write(path: str | Path, content: str | bytes) -> None:
    """Write a file completely or not at all; text is encoded as UTF-8.

    Args:
        path: the file; its folder is made if it does not exist.
        content: all of it.

    Raises:
        CannotWrite: the file system refused, or there is no room.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole(path) as temporary:
        temporary.write_bytes(data)


def unfinished(name: str) -> str:
    """Return the temporary name of a file; each process and thread has its own."""
    return f"{UNFINISHED}{os.getpid()}-{threading.get_ident()}-{name}"


def is_unfinished(name: str) -> bool:
    """Return whether a file has a temporary name.

    >>> is_unfinished(unfinished("page")), is_unfinished(".tmp-page")
    (True, False)
    """
    return _OURS.match(name) is not None


def clean(folder: Path) -> None:
    """Remove the unfinished files of processes that have ended."""
    for path in folder.glob(f"{UNFINISHED}*"):
        writer = _OURS.match(path.name)
        if writer and not _alive(int(writer[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
