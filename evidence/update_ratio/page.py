"""The page of evidence on UpdateRatioLR's ratio: losses, regret, and the rule that follows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evidence.update_ratio.numbers import (
    FLAT,
    FLOOR,
    MEASURES,
    RULES,
    SMALL,
    Numbers,
    between,
    criterion,
    horizon_of,
    left_out,
    load,
    scores,
)
from evidence.update_ratio.plan import Settings
from ratewise.compare.report.tables import Table
from ratewise.compare.statistics import CAP, TIE, Interval
from ratewise.plotting import PALETTE, Line, Panel, save_panels
from ratewise.rules.update_ratio import DEFAULT
from ratewise.runs import Store, files


def write(store: Store, settings: Settings, page: Path) -> None:
    """Write the page, and its figure beside it."""
    numbers = load(store, settings)
    page.parent.mkdir(parents=True, exist_ok=True)
    _draw(numbers, page.with_suffix(".png"))
    files.write_bytes(page, text(numbers, page.with_suffix(".png").name).encode())


def text(numbers: Numbers, figure: str) -> str:
    """Return the page."""
    s = numbers.settings
    runs = len(numbers.steps) * (len(s.ratios) + s.rates) * len(s.seeds)
    parts = [
        "# Which ratio for which length",
        f"Made by `ratewise study update-ratio --data DATA`; the same command goes on after a "
        f"kill. {runs:,} simulated trainings: {len(s.tasks)} tasks, optimizers "
        f"{' and '.join(s.optimizers)}, {', '.join(map(str, s.horizons))} steps, {len(s.seeds)} "
        f"seeds, each under `UpdateRatioLR` at {len(s.ratios)} ratios and under cosine at "
        f"{s.rates} rates over three decades. Their data may train policies; what judges the "
        "package's schedules is not among it. `evidence/update_ratio/plan.py` has every "
        "task.",
        "Two losses are compared: the clean training loss at the end (a fixed part of the data), "
        "and that of a quarter of the rows held out. Each is a mean over seeds of the logarithm, "
        f"limited to {FLOOR:g} and {CAP:g} times the first training loss; a diverged run counts as "
        "the latter. Tuned cosine is the best of its rates in hindsight, on the very loss that is "
        "compared: harder to beat than what a user finds. Data are called small where a task's "
        f"name has {', '.join(f'`{word}`' for word in SMALL)}.",
        "## What came out",
        "\n".join(_wrapped(f"- {line}", "  ") for line in _claims(numbers)),
        "## The default against tuned cosine",
        "How often it is lower by more than 1%, within it, and higher (a task with an optimizer "
        "counts once a length), and the median ratio with its 95% interval from a bootstrap over "
        "tasks. Below 1 the default is lower. Losses at the default are read off between measured "
        "ratios, linearly in logarithms, here and below.",
        _against(numbers),
        "Task by task, training / held-out loss, the geometric mean over optimizers:",
        _by_task(numbers),
        "## Every ratio against tuned cosine",
        "Medians over tasks and optimizers. The last column is cosine at its median rate: what a "
        "rate picked blindly gives.",
        f"![Median ratio to tuned cosine]({figure})",
        *_tables(numbers, _medians, numbers.ours, numbers.default, np.median(numbers.cosine, -1)),
        "## Regret",
        "Mean of ln(loss / loss at the best ratio of the same task, optimizer and length), each at "
        "most 1; 0 is the best there is.",
        *_tables(numbers, _means, numbers.regret, numbers.default_regret),
        "## The fit",
        f"ratio(T) = level (300/T)^power, limited to what was measured, {s.ratios[0]:g} to "
        f"{s.ratios[-1]:g}. Criterion: the mean regret on both losses, added. The ten best of "
        f"{len(RULES)}, and the package's:",
        _fits(numbers),
    ]
    return "\n\n".join(x if x[0] in "#|-!" else _wrapped(x) for x in parts) + "\n"


def _wrapped(line: str, indent: str = "") -> str:
    return textwrap.fill(line, 99, subsequent_indent=indent, break_on_hyphens=False)


def _claims(numbers: Numbers) -> list[str]:
    found = scores(numbers.regret, numbers.steps, numbers.settings.ratios)
    ours = numbers.default_regret
    values, mine = criterion(found), float(ours.sum(0).mean())
    best, better = int(values.argmin()), int((values < mine - 1e-12).sum())
    flat = [RULES[k] for k in np.flatnonzero(values <= values[best] + FLAT)]
    levels, powers = zip(*flat, strict=True)
    same = min((k for k, rule in enumerate(RULES) if rule[1] == 0), key=lambda k: float(values[k]))
    lines = [
        f"The package's default, chosen on these runs, is {_rule(DEFAULT[:2])} within "
        f"[{DEFAULT.least:g}, {DEFAULT.most:g}], and {DEFAULT.unknown:g} where the length T is not "
        f"known. Its regret is {mine:.3f} (training "
        f"{ours[0].mean():.3f}, held-out {ours[1].mean():.3f}), rank {better + 1}. "
        + (
            f"**{better} of {len(RULES)} rules are better**, the best is {_rule(RULES[best])} with "
            f"{values[best]:.3f}."
            if better
            else f"None of the {len(RULES)} rules that were tried is better."
        ),
        f"{len(flat)} rules lie within {FLAT:g} of the best, with levels {min(levels):g} to "
        f"{max(levels):g} and powers {min(powers):g} to {max(powers):g}: "
        + (
            "the criterion is flat, these are as good as each other."
            if len(flat) > 1
            else "no other."
        ),
        "The best with another limit on a regret than 1: " + ", ".join(_limited(numbers)) + ".",
        f"One ratio for all lengths is {RULES[same][0]:g} at best, with regret {values[same]:.3f}.",
    ]
    for m, name in enumerate(MEASURES):
        k = int(found[:, m].mean(-1).argmin())
        training, apart = found[k].mean(-1)
        lines.append(
            f"By {name} loss alone the best is {_rule(RULES[k])}: regret {training:.3f} on "
            f"training and {apart:.3f} on held-out loss."
        )
    last = max(numbers.settings.horizons)
    for name, keep in list(numbers.groups().items())[1:]:
        value, units = criterion(found[..., keep]), keep & (numbers.steps == last)
        default = criterion(ours[None][..., keep])[0]
        wanted = numbers.regret[:, units].mean(1).argmin(-1)
        training, apart = (f"{numbers.settings.ratios[k]:g}" for k in wanted)
        lines.append(
            f"On {name} data alone the best is {_rule(RULES[int(value.argmin())])}, with regret "
            f"{value.min():.3f}; the default has {default:.3f}. At {last} steps training loss asks "
            f"there for {training} and held-out loss for {apart}"
            + (": no ratio suits both." if abs(wanted[0] - wanted[1]) > 1 else ".")
        )
    if len(numbers.settings.tasks) > 1:
        apart_regret, chosen = left_out(found, numbers.tasks)
        rules = ", ".join(f"{_rule(RULES[k])} {chosen.count(k)}x" for k in dict.fromkeys(chosen))
        lines.append(
            f"Chosen without a task and judged on it, the regret is {apart_regret:.3f}, against "
            f"{values[best]:.3f} of the best rule on the tasks that chose it. Chosen: {rules}."
        )
    below = (numbers.default[:, :, None] < numbers.cosine).mean((1, 2))
    lines.append(
        f"The default ends below cosine at {below[0]:.0%} of its rates in training loss, and at "
        f"{below[1]:.0%} in held-out loss."
    )
    count, s = len(numbers.settings.ratios), numbers.settings
    each = [f"{diverged}/{risen}" for diverged, risen in numbers.failed.T]
    at = ", ".join(f"{x} at {r:g}" for r, x in zip(s.ratios, each, strict=False) if x != "0/0")
    lines.append(
        f"Of {len(numbers.steps) * len(s.seeds)} runs each, diverged / ended above their first "
        f"loss, diverged ones included: {at or 'none at any ratio'}; at cosine's rates, lowest "
        f"first, {', '.join(each[count:])}."
    )
    return lines


def _limited(numbers: Numbers) -> list[str]:
    """Say which rule is the best, and what the default costs, if one regret may be another size."""
    s, lines = numbers.settings, []
    free = numbers.ours - numbers.ours.min(-1, keepdims=True)
    weights = between([DEFAULT.ratio(int(n)) for n in numbers.steps], s.ratios)
    for limit in (0.2, 0.5, 2.0, math.inf):
        regret = np.minimum(free, limit)
        values = criterion(scores(regret, numbers.steps, s.ratios))
        mine = criterion(np.einsum("mur,ur->mu", regret, weights)[None])[0]
        name = f"at {limit:g}" if limit < math.inf else "without one"
        best = int(values.argmin())
        lines.append(f"{name} {_rule(RULES[best])} ({values[best]:.3f}, default {mine:.3f})")
    return lines


def _rule(rule: tuple[float, float]) -> str:
    return f"{rule[0]:g} (300/T)^{rule[1]:g}"


def _against(numbers: Numbers) -> str:
    rows = []
    for length in (*numbers.settings.horizons, 0):
        keep = (numbers.steps == length) | (length == 0)
        for m, name in enumerate(MEASURES):
            x, tie = numbers.default[m, keep], math.log(TIE)
            counts = [(x < -tie).sum(), (abs(x) <= tie).sum(), (x > tie).sum()]
            parts = [_short(numbers.interval(m, keep & g)) for g in numbers.groups().values()]
            rows.append([f"{length or 'all'}", name, " / ".join(map(str, counts)), *parts])
    return Table("", ["steps", "loss", "low/tie/high", *numbers.groups()], rows).markdown()


def _short(found: Interval) -> str:
    """Return a ratio with its interval in two digits.

    >>> _short(Interval(0.0, -0.0513, 0.0488, 5, "bootstrap"))
    '1.00 [0.95, 1.05]'
    """
    middle, low, high = found.ratio()
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]" if found.n > 1 else f"{middle:.2f}"


def _medians(values: np.ndarray) -> list[str]:
    return [f"{x:.3f}" if x < 10 else f"{x:.1f}" for x in np.exp(np.median(values, 0))]


def _means(values: np.ndarray) -> list[str]:
    return [f"{x:.3f}" for x in values.mean(0)]


def _tables(
    numbers: Numbers, shown: Callable[[np.ndarray], list[str]], *columns: np.ndarray
) -> list[str]:
    """Return a heading and a table a measure; a row is a length and a group of units."""
    ratios = [f"{ratio:g}" for ratio in numbers.settings.ratios]
    header = ["steps", "data", *ratios, "default", "cosine"][: len(ratios) + len(columns) + 1]
    parts = []
    for m, name in enumerate(MEASURES):
        values = np.column_stack([column[m] for column in columns])
        rows = [
            [str(length), group, *shown(values[keep & (numbers.steps == length)])]
            for length in numbers.settings.horizons
            for group, keep in numbers.groups().items()
        ]
        parts += [f"{name.capitalize()} loss:", Table("", header, rows).markdown()]
    return parts


def _fits(numbers: Numbers) -> str:
    s, rows = numbers.settings, []
    found = scores(numbers.regret, numbers.steps, s.ratios)
    order = np.argsort(criterion(found), kind="stable")[:10]
    shown = [(horizon_of(RULES[k], s.ratios), found[k]) for k in order]
    for rule, regret in [*shown, (DEFAULT, numbers.default_regret)]:
        regrets = [f"{x:.3f}" for x in (regret.sum(0).mean(), *regret.mean(-1))]
        at = [f"{rule.ratio(length):.4f}" for length in s.horizons]
        rows.append([f"{rule.level:g}", f"{rule.power:g}", *regrets, *at])
    header = ["level", "power", "criterion", *MEASURES, *(f"at {n}" for n in s.horizons)]
    return Table("", header, rows).markdown()


def _by_task(numbers: Numbers) -> str:
    rows = []
    for name in numbers.settings.tasks:
        keep = [(numbers.tasks == name) & (numbers.steps == n) for n in numbers.settings.horizons]
        means = [np.exp(numbers.default[:, units].mean(-1)) for units in keep]
        rows.append([name, *(" / ".join(f"{x:.2f}" for x in both) for both in means)])
    return Table("", ["", *(f"{n} steps" for n in numbers.settings.horizons)], rows).markdown()


def _draw(numbers: Numbers, path: Path, most: float = 2.5) -> None:
    """Draw the medians, those above `most` at it: what matters lies close to 1."""

    def shown(values: Any) -> list[float]:
        return np.minimum(np.exp(values), most).tolist()

    s, panels = numbers.settings, []
    for m, name in enumerate(MEASURES):
        lines = [Line("tuned cosine", "#999999", [0.001, 0.1], [1.0, 1.0])]
        units = {n: numbers.steps == n for n in s.horizons}
        for colour, (n, keep) in zip(PALETTE, units.items(), strict=False):
            medians = shown(np.median(numbers.ours[m, keep], 0))
            lines.append(Line(f"{n} steps", colour, s.ratios, medians))
        rule = [DEFAULT.ratio(n) for n in s.horizons]
        at = shown([np.median(numbers.default[m, keep]) for keep in units.values()])
        lines.append(Line("default", "#000000", rule, at, strong=True))
        label = f"median ratio to tuned cosine, at most {most:g}"
        panels.append(Panel(f"{name} loss", "ratio", label, lines, log_x=True))
    save_panels(panels, path)
