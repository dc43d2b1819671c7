"""What an area of the fuzzing is, and how one case of it is tried.

An area is a file of this folder that tries one part of the library with hostile input. It has

- ``case(rng, folder)``: makes one hostile case from the generator, tries it, and returns the
  outcome in a word or two, such as ``"held"`` or ``"refused InvalidState"``; it raises `Fault`
  where a promise is broken;
- ``REGRESSIONS``: each known fault by name, as a function of a folder that raises if it is back.

Both may also crash or hang: `tests.fuzz.workers` tries them in processes of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import re
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

#: The areas and their numbers, which are part of each case's seed.
AREAS = {
    "schedulers": 0,
    "states": 1,
    "policies": 2,
    "stores": 3,
    "matrices": 4,
    "data_files": 5,
    "logs": 6,
}
#: Areas that show what the runner sees: one is broken in every way there is, in one nothing is.
PLANTED = ("planted.faulty", "planted.sound")
_LONGEST = 8000  # characters of a traceback that are kept


class Fault(AssertionError):
    """The library broke a promise: a wrong number, a wrong error, or a silence."""


@dataclass(frozen=True)
class Trial:
    """One thing to try.

    Attributes:
        area: the name of the area, a file of this folder.
        case: the number of a case, or the name of a regression.
        seed: of the cases.
    """

    area: str
    case: int | str
    seed: int = 0

    @property
    def command(self) -> str:
        """The command that tries this alone."""
        if isinstance(self.case, str):
            return f"python -m tests.fuzz --area {self.area} --regression {self.case!r}"
        return f"python -m tests.fuzz --area {self.area} --case {self.case} --seed {self.seed}"


@dataclass(frozen=True)
class Tried:
    """What a trial came to.

    Attributes:
        trial: what was tried.
        outcome: the area's words for it, or the kind of finding.
        finding: what was found, a traceback for example; empty if nothing was.
        where: the place in the code that tells findings apart.
        seconds: it took.
    """

    trial: Trial
    outcome: str
    finding: str = ""
    where: str = ""
    seconds: float = 0.0


def module(area: str) -> str:
    """Return the name of an area's module."""
    return f"tests.fuzz.{area}"


def present(names: Iterable[str] = AREAS) -> list[str]:
    """Return the areas among `names` whose file exists."""
    return [name for name in names if importlib.util.find_spec(module(name))]


def regressions(area: str) -> dict[str, Callable[[Path], None]]:
    """Return the known faults of an area."""
    return importlib.import_module(module(area)).REGRESSIONS


def attempt(trial: Trial, folder: Path) -> Tried:
    """Try a case or a regression in an empty folder; whatever it raises becomes a finding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Tried(trial, run(trial, folder))
    except BaseException as error:  # an exit, too, is something that no case may do
        kind = "fault" if isinstance(error, Fault) else f"error {type(error).__name__}"
        text = "".join(traceback.format_exception(error))
        return Tried(trial, kind, text[-_LONGEST:], _where(error))


def run(trial: Trial, folder: Path) -> str:
    """Return the outcome of a trial, and let through what it raises.

    A case draws from ``default_rng([seed, number of the area, number of the case])``; the
    generators of torch, NumPy and Python, which layers and libraries draw from, start from the
    same numbers.
    """
    area = importlib.import_module(module(trial.area))
    number = trial.case if isinstance(trial.case, int) else 0
    entropy = [trial.seed, AREAS.get(trial.area, len(AREAS)), number]
    common = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    torch.manual_seed(common)
    np.random.seed(common)  # noqa: NPY002
    random.seed(common)
    if isinstance(trial.case, str):
        area.REGRESSIONS[trial.case](folder)
        return "held"
    return area.case(np.random.default_rng(entropy), folder)


def _where(error: BaseException) -> str:
    """Return what tells findings apart: the place and the words of an error's first cause."""
    while error.__cause__ is not None and error.__cause__.__traceback__ is not None:
        error = error.__cause__
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", str(error)[:300]).splitlines() or [""]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return f"{place}: {type(error).__name__} {words[0][:40]}"
