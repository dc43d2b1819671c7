"""``python -m tests.fuzz``: hostile input by the hour, by the number, or one case alone."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

# one thread a process, here and in what the cases start
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.fuzz.counts import Counts, write_page
from tests.fuzz.harness import AREAS, PLANTED, Trial, Tried, attempt, present, regressions
from tests.fuzz.workers import Limits, prepare, tried

from ratewise.progress import tracked


def by_number(areas: Sequence[str], seed: int, cases: int) -> Iterator[Trial]:
    """Yield the known faults of the areas, then the first cases of each."""
    yield from known_faults(areas)
    for case in range(cases):
        yield from (Trial(area, case, seed) for area in areas)


def by_time(
    areas: Sequence[str], seed: int, seconds: float, spent: Counter[str]
) -> Iterator[Trial]:
    """Yield the known faults, then cases of the area that has had the least time, until it is up.

    Args:
        areas: to try.
        seed: of the cases.
        seconds: from now on.
        spent: seconds by area; who counts the results adds to them.
    """
    end = time.monotonic() + seconds
    yield from known_faults(areas)
    numbers: Counter[str] = Counter()
    while time.monotonic() < end:
        area = min(areas, key=lambda area: (spent[area], numbers[area]))
        yield Trial(area, numbers[area], seed)
        numbers[area] += 1


def known_faults(areas: Sequence[str]) -> Iterator[Trial]:
    """Yield the regressions of the areas."""
    for area in areas:
        yield from (Trial(area, name) for name in regressions(area))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print what was found, and return 1 if something was."""
    options = _parser().parse_args(arguments)
    if options.area:
        case = options.case if options.regression is None else options.regression
        return _alone(Trial(options.area, case, options.seed), options.folder)
    areas = options.areas or present()
    counts, spent = Counts(options.seed), Counter[str]()
    if options.cases is None:
        trials = by_time(areas, options.seed, options.seconds, spent)
        total = int(options.seconds)
    else:
        trials = by_number(areas, options.seed, options.cases)
        total = options.cases * len(areas) + len(list(known_faults(areas)))

    def counted() -> Iterator[Tried]:
        for result in tried(trials, jobs=options.jobs, limits=Limits(seconds=options.deadline)):
            spent[result.trial.area] += result.seconds
            if counts.add(result):
                _show(result, options.findings)
            yield result

    prepare(areas)
    results = counted() if options.cases is not None else _whole_seconds(counted(), total)
    stopped = False
    try:
        for _ in tracked(results, total, "fuzzing"):
            pass
    except KeyboardInterrupt:
        stopped = True
    for (area, where), alike in counts.findings.items():
        print(f"{len(alike):6,} x {area}: {where}\n         {alike[0].trial.command}")
    print(f"\n{counts.table()}\n\n{counts.summary()}{' Stopped early.' if stopped else ''}")
    if options.counts:
        options.counts.parent.mkdir(parents=True, exist_ok=True)
        options.counts.write_text(json.dumps(counts.by_name(), indent=1) + "\n", encoding="utf-8")
    if options.page and not stopped:
        amount = f"--seconds {total}" if options.cases is None else f"--cases {options.cases}"
        write_page(options.page, f"python -m tests.fuzz {amount} --seed {options.seed}", counts)
    return 130 if stopped else int(bool(counts.findings))


def _whole_seconds(results: Iterator[Tried], seconds: int) -> Iterator[None]:
    """Take all results, and yield once for each second that goes by."""
    begun, said = time.monotonic(), 0
    for _ in results:
        passed = min(int(time.monotonic() - begun), seconds)
        yield from (None for _ in range(passed - said))
        said = passed


def _show(result: Tried, folder: Path | None) -> None:
    """Keep a finding in a file of its own, and print it."""
    text = f"{result.trial.area}: {result.outcome}\n{result.trial.command}\n\n{result.finding}\n"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", f"{result.trial.area}-{result.trial.case}")
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    print(text, flush=True)


def _alone(trial: Trial, folder: Path | None) -> int:
    """Try one thing in this process, where a debugger can follow."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        result = attempt(trial, folder or Path(temporary))
    print(result.finding or result.outcome)
    return int(bool(result.finding))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.allow_abbrev = False
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=60.0, help="how long; 60 otherwise")
    amount.add_argument("--cases", type=int, help="of each area, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--areas", type=_areas, help=f"some of {','.join(AREAS)}; all otherwise")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds until a case hangs")
    parser.add_argument("--findings", type=Path, help="keep each finding in a file of this folder")
    parser.add_argument("--counts", type=Path, help="write the counts to this JSON file")
    parser.add_argument("--page", type=Path, help="put the counts between the marks of this page")
    alone = parser.add_argument_group("one case alone, in this process")
    alone.add_argument("--area", help="its area")
    which = alone.add_mutually_exclusive_group()
    which.add_argument("--case", type=int, default=0, help="its number")
    which.add_argument("--regression", help="or the name of a known fault")
    alone.add_argument("--folder", type=Path, help="where its files are to stay")
    return parser


def _areas(text: str) -> list[str]:
    names = text.split(",")
    known = [*present(), *PLANTED]
    if missing := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no area {missing[0]!r}; there are {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
