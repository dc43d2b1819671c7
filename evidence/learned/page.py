"""The page of evidence on learned schedules: what was wanted, what came out, every table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evidence.learned import figures as learned_figures
from evidence.learned import plan as learned
from evidence.learned.claims import (
    Finding,
    findings,
    ratio,
    shown,
    upper,
)
from evidence.learned.numbers import (
    AT_USUAL,
    COSINE,
    FLOOR,
    LOSS,
    MEASURES,
    RATIO,
    SMOOTH,
    STEP,
    TUNED_RATIO,
    WIN,
    Numbers,
    counts,
    interval,
    numbers_from,
    steps_interval,
)
from evidence.learned.plan import Settings
from evidence.learned.words import QUESTIONS, provenance, sentences
from ratewise.compare.report.tables import Table
from ratewise.compare.statistics import CAP
from ratewise.errors import StoreError
from ratewise.rules.learned import FOLDER
from ratewise.runs import Store, files

#: The pictures beside the page, by what they show.
PICTURES = ("rates", "schedules", "curve")


def write(store: Store, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it.

    Raises:
        StoreError: a run is missing.
    """
    wanted = sum(len(learned.run_ids(settings, unit)) for unit in learned.units(settings))
    records = learned.records(store, settings)
    if len(records) < wanted:
        missing = wanted - len(records)
        raise StoreError(f"{store.folder} lacks {missing} of {wanted} runs: run the study again")
    numbers = numbers_from(records)
    page.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: page.with_name(f"{page.stem}-{kind}.png") for kind in PICTURES}
    learned_figures.draw_rates(numbers, paths["rates"])
    drawn = learned_figures.draw_schedules(numbers, paths["schedules"])
    curves = learned_figures.curve([_curve_of(name) for name in settings.policies], paths["curve"])
    lines = {
        "rates": _picture(
            "The final held-out loss over tuned cosine's, against the starting rate: median and "
            "middle half of the tasks; what lies outside "
            f"{learned_figures.LIMITS[0]:g} to {learned_figures.LIMITS[1]:g} is drawn at the edge. "
            "What needs no rate should be a flat line.",
            paths["rates"],
        ),
        "schedules": _picture(
            f"What the schedules do on {' and '.join(drawn)}: the size of a step's update, a "
            f"running mean of {SMOOTH} recorded ones.",
            paths["schedules"],
        ),
        "curve": _picture(
            "While the policies learned: how much lower losses were than under the anchor alone.",
            paths["curve"],
        ),
    }
    shown_ones = {"rates": True, "schedules": bool(drawn), "curve": curves}
    pictures = [lines[kind] for kind in PICTURES if shown_ones[kind]]
    files.write_bytes(page, text(numbers, provenance(settings.policies), pictures).encode())


def _curve_of(policy: str) -> Path:
    path = Path(policy)
    shipped = FOLDER / f"{policy}.curve.json"
    return shipped if shipped.is_file() else path.with_name(f"{path.stem}.curve.json")


def _picture(words: str, path: Path) -> str:
    return f"{_wrapped(words)}\n\n![{path.stem.replace('-', ' ')}]({path.name})"


def text(numbers: Numbers, made: Sequence[str], pictures: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        numbers: of the study.
        made: how each policy was made, a line each.
        pictures: what shows them.
    """
    found = [findings(numbers, measure) for measure in range(len(MEASURES))]
    rates = numbers.methods[COSINE].rates.shape[1]
    families = [f"{int(numbers.keep(x).sum())} {x}" for x in numbers.families()]
    parts: list[str] = [
        "# Learned schedules on trainings that they have not seen",
        "Made by `ratewise study learned`; the same command goes on after a kill. "
        f"{numbers.runs:,} trainings of {len(numbers.tasks)} tasks ({', '.join(families)}; a task "
        "is a model with its data, an optimizer and a length of "
        f"{numbers.steps.min()} to {numbers.steps.max()} steps), seeds "
        f"{', '.join(map(str, numbers.seeds))}: common schedules at {rates} rates over three "
        "decades, methods that need no rate, and optimizers that need none. No policy was trained "
        "on any of these tasks; `evidence/judged.py` has all of them.",
        "## What came out",
        "Numbers in parentheses are those of the questions in the next section, which has the "
        "wanted values.",
        "\n".join(_wrapped(f"- {line}", "  ") for line in sentences(numbers, found)),
        "## What was wanted",
        f"Ratios of final losses; below 1 ours is lower. A win is below {WIN:g}, a loss above "
        f"{LOSS:g}. Losses below {FLOOR:g} of the initial one count as that, diverged runs as "
        f"{CAP:g} times it, of the initial clean training loss for both measures. "
        "Logarithms are averaged over seeds before a median over tasks is "
        "taken, but at the same rate, and in steps, where each task, rate and seed is one value. "
        "Intervals: 95%, 2000 draws of a bootstrap in which each task is one cluster, seed 0; "
        "tasks that share data count as different ones. No correction for the number of "
        "comparisons. Tuned is the best of the grid in hindsight, on the mean over seeds of the "
        "very loss that is compared. Blown up, and failed: a loss that is not finite, or a clean "
        "training loss above its start. `training` is the clean loss on a fixed part of the "
        "training data, `held-out` that of a quarter of the rows.",
        "\n".join(_wrapped(f"- ({n}) {x}", "  ") for n, x in enumerate(QUESTIONS, 1)),
        *(x for m, name in enumerate(MEASURES) for x in _wanted(numbers, name, found[m])),
        *pictures,
        "## At the same rate",
        "Every (task, rate, seed), against cosine at that rate. What needs no rate has one run a "
        "seed for all rates.",
        *(x for m in range(len(MEASURES)) for x in _same(numbers, m)),
        "## Each at its best",
        "Against tuned cosine: what needs no rate as it is, the others at their best rate, or "
        f"ratio. `{AT_USUAL}` ignores the task: the rate that people take without tuning.",
        _tuned(numbers),
        "The same by family, what needs no rate alone:",
        _by_family(numbers),
        "## Failures",
        "Runs that diverged or ended above their start; and those of them where cosine survives "
        "at a lower rate (to what needs no rate, at any). The last column is the largest ratio of "
        "the final training losses of one task and seed at different base rates.",
        _failures(numbers),
        "## Against other methods without a rate",
        "Paired by task and seed, on the tasks where both ran.",
        _rivals(numbers),
        "## Steps and time to tuned cosine's training loss",
        f"Batch losses, the mean of the last {SMOOTH} recorded ones: where it first lies at or "
        "below tuned cosine's last one, as a share of cosine's steps; then the same in time, "
        f"over cosine's one run, and over its whole grid, with {STEP:g} for a step that is steered "
        "(`python benchmarks/update_ratio_cost.py`; a stack of the simulator cannot tell). The row "
        "of cosine says what the noise of batches does: it comes to its own last value before its "
        "last step.",
        _steps(numbers),
        "## What the full grid costs",
        _grid(numbers),
        "## The policies",
        "\n".join(_wrapped(f"- {line}", "  ") for line in made) or "None.",
    ]
    return "\n\n".join(x if x[0] in "#|-!" or "\n" in x else _wrapped(x) for x in parts) + "\n"


def _wrapped(line: str, indent: str = "") -> str:
    return textwrap.fill(line, 99, subsequent_indent=indent, break_on_hyphens=False)


def _short(method: str) -> str:
    return method.removeprefix("learned ")


def _wanted(numbers: Numbers, measure: str, found: Sequence[Finding]) -> list[str]:
    names = [x for x in numbers.free() if x not in numbers.controls()]  # they are no candidates
    rows = [[f.title, f.wanted, *(f.cells[name].text() for name in names)] for f in found]
    table = Table("", ["", "wanted", *map(_short, names)], rows)
    return [f"### In {measure} loss", table.markdown()]


def _same(numbers: Numbers, measure: int) -> list[str]:
    groups = {"perceptrons": numbers.keep("mlp"), "all families": numbers.keep()}
    rows = []
    for name in [*numbers.free(), *(x for x in numbers.grids() if x != COSINE)]:
        row = [name]
        for keep in groups.values():
            found = numbers.same_rate(name, measure, keep)
            shares = (f"{100 * x:.0f}" for x in counts(found))
            row += [ratio(interval(found)), f"{'/'.join(shares)}%" if found else "-"]
        rows.append(row)
    pairs = [
        sum(x.size for x in numbers.same_rate(COSINE, measure, keep)) for keep in groups.values()
    ]
    said = f"{MEASURES[measure].capitalize()} loss, {pairs[0]:,} and {pairs[1]:,} pairs:"
    header = ["", *(x for name in groups for x in (name, "win/tie/loss"))]
    return [said, Table("", header, rows).markdown()]


def _tuned(numbers: Numbers) -> str:
    names = [*numbers.free(), TUNED_RATIO, *(x for x in numbers.grids() if x != COSINE), AT_USUAL]
    rows = []
    for name in (x for x in names if x in numbers.methods):
        row = [name]
        for measure in range(len(MEASURES)):
            x = numbers.against(name, COSINE, measure, numbers.keep())
            row += [ratio(interval(x)), _number(upper(x)), _lower(x)]
        rows.append(row)
    header = ["", *(x for name in MEASURES for x in (name, "90%", "lower"))]
    return Table("", header, rows).markdown()


def _by_family(numbers: Numbers) -> str:
    rows = []
    for family in numbers.families():
        for name in numbers.free():
            keep, row = numbers.keep(family), [family, _short(name)]
            for measure in range(len(MEASURES)):
                x = numbers.against(name, COSINE, measure, keep)
                row += [ratio(interval(x)), _number(upper(x))]
            rows.append([*row, "/".join(map(str, numbers.failures(name, keep)))])
    header = ["", "", *(x for name in MEASURES for x in (name, "90%")), "failed"]
    return Table("", header, rows).markdown()


def _failures(numbers: Numbers) -> str:
    rows = []
    for name in [*numbers.free(), *numbers.grids(), *numbers.peers()]:
        failed, total = numbers.failures(name, numbers.keep())
        avoidable = str(numbers.avoidable(name)[0])
        spread = f"{numbers.spread(name):.4g}" if name in numbers.free() else ""
        rows.append([name, str(total), str(failed), avoidable, spread])
    header = ["", "runs", "failed", "where cosine survives", "spread over base rates"]
    return Table("", header, rows).markdown()


def _rivals(numbers: Numbers) -> str:
    rows = []
    others = [RATIO, TUNED_RATIO, *numbers.controls(), *numbers.peers()]
    for rival in (x for x in others if x in numbers.methods):
        for name in (x for x in numbers.free() if x != rival):
            row = [rival, _short(name)]
            for measure in range(len(MEASURES)):
                x = numbers.against(name, rival, measure, numbers.keep())
                row += [ratio(interval(x)), f"{int((x < 0).sum())}/{len(x)}"]
            rows.append(row)
    header = ["against", "", *(x for name in MEASURES for x in (name, "lower"))]
    return Table("", header, rows).markdown()


def _steps(numbers: Numbers) -> str:
    rows = []
    names = [*numbers.free(), TUNED_RATIO, *numbers.grids(), AT_USUAL]
    for name in (x for x in names if x in numbers.methods):
        shares = numbers.shares(name)
        each = [steps_interval(x) for x in (shares, *numbers.times(name))]
        reached = f"{np.isfinite(shares).sum()}/{(~np.isnan(shares)).sum()}"
        rows.append([name, *(ratio(x, 2) for x in each), reached])  # three fit no line
    header = ["", "share of steps", "time / one run", "time / whole grid", "reached"]
    return Table("", header, rows).markdown()


def _grid(numbers: Numbers) -> str:
    runs = numbers.methods[COSINE]
    there = runs.there()
    each = [int(x) for x in np.unique(there.any(-1).sum(-1))]
    seconds = float(np.nansum(runs.seconds))
    one = float(np.nansum(np.nanmean(runs.seconds, 1)))
    told = (
        f"Tuning cosine takes {' or '.join(map(str, each))} runs a task and seed, "
        f"{int(there.sum()):,} in all and {seconds:.3g} seconds in the simulator, where one run a "
        f"task and seed takes {one:.3g}: what needs no rate costs {shown(one / seconds)} of it."
    )
    if AT_USUAL not in numbers.methods:
        return told
    usual = numbers.against(AT_USUAL, COSINE, 1, numbers.keep())
    return (
        f"{told} Not to tune, with cosine from {learned.USUAL:g}, costs the same, and ends in "
        f"held-out loss at {ratio(interval(usual))} times tuned cosine."
    )


def _lower(x: np.ndarray) -> str:
    return f"{(x < 0).mean():.0%}" if x.size else "-"


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"
