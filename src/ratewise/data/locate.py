"""Where a data set lies: under ``--data``, else under ``RATEWISE_DATA``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ratewise.errors import MissingData
from ratewise.files.contents import unreadable

#: Environment variable that names the data folder where no argument does.
VARIABLE = "RATEWISE_DATA"


def folder(data: str | Path | None) -> Path | None:
    """Return the data folder: `data`, else what the environment names now, else None."""
    named = data if data is not None else os.environ.get(VARIABLE)
    return None if named is None else Path(named)


def find(what: str, candidates: Sequence[str], how: str, data: str | Path | None) -> Path:
    """Return the first of `candidates` that exists under the data folder.

    Args:
        what: name of the data set, for the error.
        candidates: paths below the data folder, in the order in which they are tried.
        how: how to get the data, for the error.
        data: the data folder; None takes the environment variable.

    Raises:
        MissingData: one line: what is missing, where it was looked for, how to get it.
        CorruptData: the system does not let it be looked for.
    """
    root = folder(data)
    if root is None:
        raise MissingData(
            f"{what} is missing: no data folder was named; pass --data FOLDER or set "
            f"{VARIABLE}; get it: {how}"
        )
    for candidate in candidates:
        path = root / candidate
        try:
            if path.exists():
                return path
        except OSError as error:  # a folder that may not be looked into, a name that is too long
            raise unreadable(path, error) from error
    looked = ", ".join(str(root / candidate) for candidate in candidates)
    raise MissingData(f"{what} is missing: looked for {looked}; get it: {how}")
