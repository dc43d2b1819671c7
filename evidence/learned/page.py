"""The page on learned schedules: what was wanted, what came out, every table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evidence import page as pages
from evidence.claims import HELD, MISSED, UNDECIDED, UNJUDGED, Claim, corrected
from evidence.learned import figures, kept, numbers, plan
from evidence.learned.claims import claims, ratio, shown, upper
from evidence.learned.numbers import AT_USUAL, COSINE, MEASURES, RATIO, TUNED_RATIO, Numbers
from evidence.learned.plan import Settings
from evidence.results import Results
from ratewise.compare.statistics import CAP
from ratewise.plotting import save_panels
from ratewise.rules.learned import FOLDER, load

Rows = list[list[str]]


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it."""
    found = numbers.numbers_from(kept.load(results, settings))
    names = {kind: f"{page.stem}-{kind}.png" for kind in ("rates", "schedules", "curve")}
    drawn = {
        "schedules": figures.schedule_panels(found),
        "curve": figures.curve_panels([_curve_of(name) for name in settings.policies]),
    }
    draws = {names["rates"]: partial(figures.draw_rates, found)}
    draws |= {names[kind]: partial(save_panels, panels) for kind, panels in drawn.items() if panels}
    pictures = {kind: name for kind, name in names.items() if name in draws}
    shown_tasks = [panel.title for panel in drawn["schedules"]]
    pages.write(page, text(found, settings.policies, pictures, shown_tasks), draws)


def _curve_of(policy: str) -> Path:
    path = Path(policy)
    shipped = FOLDER / f"{policy}.curve.json"
    return shipped if shipped.is_file() else path.with_name(f"{path.stem}.curve.json")


def text(
    found: Numbers,
    policies: Sequence[str] = (),
    pictures: dict[str, str] | None = None,
    drawn: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        found: the study's numbers.
        policies: names or files, whose making is told.
        pictures: file names, by what they show.
        drawn: the tasks whose schedules are.
    """
    judged = _corrected({name: claims(found, m) for m, name in enumerate(MEASURES)})
    candidates = [name for name in found.free() if name not in found.controls()]
    of_policies = [
        replace(claim, title=f"{claim.title}, {name} loss")
        for name, each in judged.items()
        for claim in each
        if claim.of in found.learned()
    ]
    return pages.render(
        "learned/page.md.j2",
        of_policies,
        missed_by_all=_by_all(of_policies, MISSED, found.learned()),
        all_held={name: _together(each, found.learned()) for name, each in judged.items()},
        reached={
            name: {measure: _reached(each, name) for measure, each in judged.items()}
            for name in [*found.learned(), RATIO]
            if name in found.methods
        },
        wanted={measure: _short(each, candidates) for measure, each in judged.items()},
        numbers=found,
        constants=numbers,
        cap=CAP,
        measures=MEASURES,
        rates=found.methods[COSINE].rates.shape[1],
        families=[f"{int(found.keep(x).sum())} {x}" for x in found.families()],
        ours=_comparisons(found),
        own_steps=ratio(numbers.interval(found.targets(found.shares(COSINE)))),
        at_an_end=[found.at_an_end(COSINE, m) for m in range(len(MEASURES))],
        pictures=pictures or {},
        drawn=drawn,
        limits=figures.LIMITS,
        same={name: _same(found, m) for m, name in enumerate(MEASURES)},
        pairs={name: _pairs(found, m) for m, name in enumerate(MEASURES)},
        tuned=_tuned(found),
        by_family=_by_family(found),
        failures=_failures(found),
        rivals=_rivals(found),
        steps=_steps(found),
        grid=_grid(found),
        made=[(load(name).name, told(load(name).provenance)) for name in policies],
    )


def _corrected(judged: dict[str, list[Claim]]) -> dict[str, list[Claim]]:
    """Return the claims by measure, with Holm's correction over all of them together."""
    each = iter(corrected([claim for found in judged.values() for claim in found]))
    return {name: [next(each) for _ in found] for name, found in judged.items()}


def _by_all(found: Sequence[Claim], word: str, names: Sequence[str]) -> list[str]:
    """Return the titles that came out so for all of these methods."""
    words: dict[str, set[str]] = {}
    for claim in found:
        if claim.of in names:
            words.setdefault(claim.title, set()).add(claim.outcome)
    return [title for title, each in words.items() if each == {word}]


def _together(found: Sequence[Claim], names: Sequence[str]) -> tuple[int, int, list[str]]:
    """Return how many claims all of these methods reach, of how many, and which all miss."""
    held, missed = (_by_all(found, word, names) for word in (HELD, MISSED))
    return len(held), len({claim.title for claim in found}), missed


def _short(found: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Return the claims of these methods, the methods by their short names."""
    kept = (claim for claim in found if claim.of in names)
    return [replace(claim, of=claim.of.removeprefix("learned ")) for claim in kept]


def _reached(found: Sequence[Claim], name: str) -> tuple[int, int, list[Claim]]:
    """Return how many values a method reaches, of how many, and those that it misses."""
    judged = [
        claim for claim in found if claim.of == name and claim.outcome not in (UNDECIDED, UNJUDGED)
    ]
    missed = [claim for claim in judged if claim.outcome == MISSED]
    return len(judged) - len(missed), len(judged), missed


def _comparisons(found: Numbers) -> dict[str, Any] | None:
    """Return the first policy against what a user would otherwise do, by measure."""
    ours = next(iter(found.free()), None)
    if ours is None:
        return None
    over = numbers.interval(found.targets(found.shares(ours) / found.shares(COSINE)))
    said: dict[str, Any] = {"name": ours, "by": {}, "over_own": ratio(over)}
    for measure, name in enumerate(MEASURES):
        groups = found.same_rate(ours, measure, found.keep())
        tuned = numbers.interval(found.against(ours, COSINE, measure, found.keep()))
        said["by"][name] = ratio(tuned), ratio(numbers.interval(groups)), numbers.counts(groups)
    return said


#: The families that are looked at together, by what the table calls them.
_GROUPS = {"perceptrons": "mlp", "all families": None}


def _pairs(found: Numbers, measure: int) -> list[int]:
    groups = [found.same_rate(COSINE, measure, found.keep(x)) for x in _GROUPS.values()]
    return [numbers.values(group).size for group in groups]


def _same(found: Numbers, measure: int) -> Rows:
    rows = []
    for name in [*found.free(), *(x for x in found.grids() if x != COSINE)]:
        row = [name]
        for family in _GROUPS.values():
            groups = found.same_rate(name, measure, found.keep(family))
            shares = (f"{100 * x:.0f}" for x in numbers.counts(groups))
            row += [ratio(numbers.interval(groups)), f"{'/'.join(shares)}%" if groups else "-"]
        rows.append(row)
    return rows


def _each(measured: Callable[[int], list[str]]) -> list[str]:
    """Return the cells of a row that has the same for each measure."""
    return [cell for measure in range(len(MEASURES)) for cell in measured(measure)]


def _tuned(found: Numbers) -> Rows:
    names = [*found.free(), TUNED_RATIO, *(x for x in found.grids() if x != COSINE), AT_USUAL]

    def cells(name: str, measure: int) -> list[str]:
        x = found.against(name, COSINE, measure, found.keep())
        lower = f"{(numbers.values(x) < 0).mean():.0%}" if x else "-"
        return [ratio(numbers.interval(x)), _number(upper(x)), lower]

    return [[name, *_each(partial(cells, name))] for name in names if name in found.methods]


def _by_family(found: Numbers) -> Rows:
    def cells(name: str, keep: np.ndarray, measure: int) -> list[str]:
        x = found.against(name, COSINE, measure, keep)
        return [ratio(numbers.interval(x)), _number(upper(x))]

    rows = []
    for family in found.families():
        keep = found.keep(family)
        for name in found.free():
            failed = "/".join(map(str, found.failures(name, keep)))
            short = name.removeprefix("learned ")
            rows.append([family, short, *_each(partial(cells, name, keep)), failed])
    return rows


def _failures(found: Numbers) -> Rows:
    rows = []
    for name in [*found.free(), *found.grids(), *found.peers()]:
        failed, total = found.failures(name, found.keep())
        spread = f"{found.spread(name):.4g}" if name in found.free() else ""
        rows.append([name, str(total), str(failed), str(found.avoidable(name)[0]), spread])
    return rows


def _rivals(found: Numbers) -> Rows:
    def cells(name: str, rival: str, measure: int) -> list[str]:
        x = found.against(name, rival, measure, found.keep())
        return [ratio(numbers.interval(x)), f"{int((numbers.values(x) < 0).sum())}/{len(x)}"]

    others = [RATIO, TUNED_RATIO, *found.controls(), *found.peers()]
    return [
        [rival, name.removeprefix("learned "), *_each(partial(cells, name, rival))]
        for rival in others
        if rival in found.methods
        for name in found.free()
        if name != rival
    ]


def _steps(found: Numbers) -> Rows:
    rows = []
    names = [*found.free(), TUNED_RATIO, *found.grids(), AT_USUAL]
    for name in (x for x in names if x in found.methods):
        shares = found.shares(name)
        each = [numbers.interval(found.targets(x)) for x in (shares, *found.times(name))]
        reached = f"{np.isfinite(shares).sum()}/{(~np.isnan(shares)).sum()}"
        rows.append([name, *(ratio(x, 2) for x in each), reached])  # three fit no line
    return rows


def _grid(found: Numbers) -> dict[str, Any]:
    """Return what tuning cosine takes, and what it costs not to tune."""
    runs = found.methods[COSINE]
    there = runs.there()
    seconds, one = float(np.nansum(runs.seconds)), float(np.nansum(np.nanmean(runs.seconds, 1)))
    usual = None
    if AT_USUAL in found.methods:
        usual = ratio(numbers.interval(found.against(AT_USUAL, COSINE, 1, found.keep())))
    return {
        "each": [int(x) for x in np.unique(there.any(-1).sum(-1))],
        "runs": int(there.sum()),
        "seconds": seconds,
        "one": one,
        "share": shown(one / seconds),
        "usual_rate": plan.USUAL,
        "usual": usual,
    }


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"


def told(about: Any) -> str:
    """Return what a file says of how it was made.

    >>> told({"settings": {"seed": 1, "decisions": 1000}, "rounds": 3, "tasks": ["a", "b"]})
    'seed 1, 1,000 decisions, 3 rounds, tasks: a, b'
    """
    flat = {**about.get("settings", {}), **{k: v for k, v in about.items() if k != "settings"}}
    words = {
        "seed": "seed {}",
        "decisions": "{:,} decisions",
        "rounds": "{} rounds",
        "tasks": "tasks: {}",
        "seeds": "training seeds {}",
        "data": "data: {}",
        "version": "ratewise {}",
    }
    found = []
    for key, said in words.items():
        if flat.get(key) not in (None, [], ""):
            several = key in ("tasks", "data") and not isinstance(flat[key], str | int)
            found.append(said.format(", ".join(map(str, flat[key])) if several else flat[key]))
    return ", ".join(found) or "its file does not say how it was made"
