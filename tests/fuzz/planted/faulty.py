"""An area that breaks in every way there is: the runner has to find each."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.fuzz.harness import Fault


def case(rng: np.random.Generator, folder: Path) -> str:
    way = rng.integers(4)
    if way == 0:
        broken_promise(folder)
    if way == 1:
        wrong_error(folder)
    return "held" if way == 2 else "refused InvalidState"


def broken_promise(folder: Path) -> None:
    raise Fault("1 + 1 is 3")


def wrong_error(folder: Path) -> None:
    raise KeyError("initial_lr")


def crash(folder: Path) -> None:
    ctypes.string_at(0)


def hang(folder: Path) -> None:
    ctypes.PyDLL(None).sleep(10**6)  # in C, where it holds the interpreter's lock


def exit_of_the_process(folder: Path) -> None:
    os._exit(3)


def exit_of_the_interpreter(folder: Path) -> None:
    raise SystemExit(0)


def memory(folder: Path) -> None:
    np.zeros(6 << 30, np.uint8)


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        broken_promise,
        wrong_error,
        crash,
        hang,
        exit_of_the_process,
        exit_of_the_interpreter,
        memory,
    )
}
