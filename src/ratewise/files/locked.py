"""A file that several processes change: one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ratewise.errors import CannotWrite

#: A process that reads, changes and writes a file is done long before so many seconds.
_PATIENCE = 60.0


@contextlib.contextmanager
def locked(path: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep other processes and threads that call this for the same file waiting until the end.

    The lock is on `PATH.lock` beside the file, which stays there; the system releases it when the
    process dies.

    Args:
        path: the file; its folder is made if it does not exist.
        patience: seconds to wait for others.

    Raises:
        CannotWrite: another process has held it for so long, or the file system refused.
    """
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout as error:
        why = f"another process has held {lock.lock_file} for {patience:g} seconds: end that one"
        raise CannotWrite.of(path, why) from error
    except OSError as error:
        raise CannotWrite.of(path, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()
