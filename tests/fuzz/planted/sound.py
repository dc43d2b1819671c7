"""An area in which nothing is wrong: the runner has to find nothing."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import torch


def case(rng: np.random.Generator, folder: Path) -> str:
    print("said to nobody")
    warnings.warn("to nobody either", stacklevel=1)
    (folder / "file").write_text("of this case alone")
    drawn = (rng.integers(1000), torch.rand(()).item(), np.random.rand(), random.random())  # noqa: NPY002
    return f"drew {drawn}"


def nothing_wrong(folder: Path) -> None:
    if any(folder.iterdir()):
        raise AssertionError("the folder is not empty")


REGRESSIONS = {"nothing wrong": nothing_wrong}
