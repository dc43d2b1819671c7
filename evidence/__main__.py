"""`python -m evidence NAME` makes a page of evidence again; `--list` says which there are."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evidence import results
from evidence.how import How
from ratewise.data import sets
from ratewise.errors import InvalidArgument, RatewiseError, unknown
from ratewise.pool import BACKENDS, Where
from ratewise.pool.where import resources

PAGES = Path("docs") / "evidence"


class Study(NamedTuple):
    """A study, as the command line knows it."""

    module: str  #: below `evidence`: where `run` is
    shows: str
    takes: str  #: on two cores; what is timed needs them alone
    needs: tuple[str, ...] = ()  #: of `ratewise.data.sets`, below --data
    parts: tuple[str, ...] = ()  #: modules that the package itself does not need
    keeps: bool = False  #: whether its results lie in `evidence/results`, and are committed
    page: str = ""  #: below `docs/evidence`; by its own name where nothing is said


_JUDGING = ("fashion", "cifar", "shakespeare", "polarity")
_MATRICES = ("wikitext", "polarity", "shakespeare", "faces", "leukemia")
_PEERS = ("prodigyopt", "schedulefree")
STUDIES = {
    "robustness": Study(
        "robustness.run", "how schedules bear noise", "25 minutes, --full 90", keeps=True
    ),
    "nmf": Study(
        "nmf.run",
        "learned rates of a factorisation against tuned ones",
        "15 minutes",
        needs=("faces", "leukemia"),
        keeps=True,
    ),
    "coverage": Study(
        "coverage.run", "how often the intervals of all pages err", "2 minutes", keeps=True
    ),
    "past-runs": Study(
        "past_runs.run",
        "what past trainings say of the next, and what tuning with a few runs is worth",
        "40 minutes",
        needs=("housing", "wikitext", "kjv", "mnist1d", *_JUDGING),
        keeps=True,
    ),
    "update-ratio": Study(
        "update_ratio.run",
        "UpdateRatioLR's ratio, by the length of a run",
        "2 hours",
        needs=("wikitext", "housing"),
        keeps=True,
    ),
    "greedy-defaults": Study(
        "greedy_defaults.run",
        "which defaults GreedyLR should have under significance, and how good they are",
        "40 minutes",
        needs=("housing", "wikitext", "kjv", "mnist1d", *_JUDGING),
        keeps=True,
        page="greedylr-defaults.md",
    ),
    "article": Study(
        "article.run",
        "the article's claims on GreedyLR, tested",
        "4 hours on one core",
        needs=("wikitext", "housing", "kjv", "mnist1d", "faces", *_JUDGING),
        keeps=True,
    ),
    "learned": Study(
        "learned.run",
        "what needs no rate, from 300 to 20,000 steps",
        "an hour",
        needs=("cifar", "shakespeare", "polarity", "kjv", "mnist1d"),
        parts=_PEERS,
        keeps=True,
    ),
    "scheduler-overhead": Study(
        "speed.scheduler_overhead", "what a step of GreedyLR costs", "5 minutes"
    ),
    "gpu-overhead": Study(
        "speed.gpu_overhead",
        "what a scheduler adds to a step on a GPU",
        "10 minutes, on an idle GPU",
    ),
    "tensor-rates": Study(
        "speed.tensor_rates", "which optimizers leave a rate on its device", "a minute"
    ),
    "update-ratio-cost": Study(
        "speed.update_ratio_cost", "what steering each tensor costs", "5 minutes"
    ),
    "nmf-speed": Study(
        "speed.nmf_speed", "StochasticNMF beside scikit-learn", "30 minutes", needs=_MATRICES
    ),
    "cluster-cost": Study(
        "speed.cluster_cost",
        "what Ray adds to processes, and how many runs a driver can store",
        "15 minutes, 0.5 GB of disk",
        parts=("ray",),
    ),
    "simulator-speed": Study(
        "speed.simulator", "how many steps a second the simulator makes", "40 minutes"
    ),
}


def page_of(name: str) -> Path:
    """Return where a study's page lies by default."""
    return PAGES / (STUDIES[name].page or f"{name}.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; a named error is one line, status 2."""
    asked = _parser().parse_args(arguments)
    if asked.list or asked.name is None:
        print(listed())
        return 0
    try:
        asked.name = asked.name.replace("_", "-")  # a study's module is a name for it, too
        if asked.name not in STUDIES:
            raise unknown("study", asked.name, STUDIES)
        _run(STUDIES[asked.name], asked)
    except RatewiseError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("ratewise", "evidence")):
            raise
        fix = "`make install` gets what evidence needs"
        print(f"evidence: {error.name!r} is not installed: {fix}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = " ".join(
            ["python -m evidence", *(sys.argv[1:] if arguments is None else arguments)]
        )
        print(
            f"evidence: stopped; what is finished is kept: `{again}` goes on there", file=sys.stderr
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m evidence", description=__doc__)
    parser.add_argument("name", nargs="?", help="of the study, as --list has it")
    parser.add_argument("--list", action="store_true", help="show every study, and end")
    parser.add_argument("--data", help="folder with the data sets; default: RATEWISE_DATA")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the runs, from which a study goes on; default: evidence/results where "
        "results are committed, runs-NAME otherwise",
    )
    parser.add_argument("--page", type=Path, help="the Markdown file; default: in docs/evidence")
    parser.add_argument("--jobs", type=int, help="workers; default 2, on Ray the whole cluster")
    parser.add_argument("--backend", choices=BACKENDS, help="where they work; default: processes")
    parser.add_argument("--address", help="of a cluster that Ray runs on; default: a local Ray")
    parser.add_argument(
        "--resources", help="of each worker on Ray: cpus=1,memory=2e9, default cpus=1"
    )
    parser.add_argument("--dashboard", action="store_true", help="print Ray's address")
    parser.add_argument("--page-only", action="store_true", help="run nothing, write the page")
    parser.add_argument("--full", action="store_true", help="the larger size, where there is one")
    parser.add_argument("--quick", action="store_true", help="a trial of the code, of no meaning")
    return parser


def _where(asked: argparse.Namespace) -> Where:
    """Return where the runs are made.

    Raises:
        InvalidArgument: options that do not go together, or a number outside its range.
    """
    two = 2 if asked.backend in (None, "processes") else None
    return Where(
        asked.backend,
        two if asked.jobs is None else asked.jobs,
        asked.address,
        resources(asked.resources),
        asked.dashboard,
    )


def listed() -> str:
    """Return what every study shows, how long it takes, and what it needs."""
    lines = []
    for name, study in STUDIES.items():
        needs = ", ".join([*study.needs, *study.parts]) or "nothing"
        lines += [name, f"    shows {study.shows}", f"    takes {study.takes}; needs {needs}"]
    return "\n".join(lines)


def _run(study: Study, asked: argparse.Namespace) -> None:
    where = _where(asked)
    if not asked.page_only:
        _check_data(study, asked.data)
    if asked.data is not None:
        os.environ["RATEWISE_DATA"] = asked.data  # the processes that simulate look there
    module = importlib.import_module(f"evidence.{study.module}")
    out = asked.out or (results.FOLDER if study.keeps else Path(f"runs-{asked.name}"))
    page = asked.page or page_of(asked.name)
    how = How(out, page, asked.data, where, asked.page_only)
    module.run(how, _size(module, asked))
    print(f"page: {page}")


def _check_data(study: Study, data: str | None) -> None:
    """Read what the study will read, so that what is missing is said before hours of work.

    Raises:
        MissingData, CorruptData: a data set is absent or damaged.
    """
    for name in study.needs:
        getattr(sets, name)(data)


def _size(module: Any, asked: argparse.Namespace) -> Any:
    """Return the settings of the size that was asked for.

    Raises:
        InvalidArgument: the study has no such size.
    """
    if asked.full and asked.quick:
        raise InvalidArgument("--full and --quick exclude each other: pass one of them")
    size = "full" if asked.full else "quick" if asked.quick else ""
    if size not in module.SIZES:
        known = ", ".join(f"--{name}" for name in module.SIZES if name) or "no other size"
        raise InvalidArgument(f"--{size} is no size of {asked.name}: it has {known}")
    return module.SIZES[size]


if __name__ == "__main__":
    sys.exit(main())
