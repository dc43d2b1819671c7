"""How a study is run: where its runs and its page lie, on what data, in how many processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ratewise.pool import HERE, Where


@dataclass(frozen=True)
class How:
    """What a study's `run` is told beside the study's size.

    Where it makes runs, those that fail are a `RunFailed` at the end, and all others are kept.

    Args:
        out: folder for the runs; the same call goes on after a kill.
        page: the Markdown file to write; its figures lie beside it.
        data: folder with the data sets; None is that of RATEWISE_DATA.
        where: the backend of the runs; each worker uses one thread.
        page_only: run nothing; what is missing is a `StoreError`.
        progress: show bars.
    """

    out: Path
    page: Path
    data: str | None = None
    where: Where = HERE
    page_only: bool = False
    progress: bool = True
