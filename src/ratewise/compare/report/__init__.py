"""The report of a comparison: `index.html`, `report.md` and PNGs, made from the store alone."""

from __future__ import annotations

import html
import importlib.util
import textwrap
from dataclasses import dataclass
from pathlib import Path

from ratewise import plotting
from ratewise.compare import analysis
from ratewise.compare.analysis import Pair, Runs
from ratewise.compare.outcomes import outcomes
from ratewise.compare.report import page, panels, tables, words
from ratewise.compare.report.tables import Table, escaped
from ratewise.errors import missing_extra
from ratewise.files import writing
from ratewise.plotting import interactive
from ratewise.runs import Store


@dataclass(frozen=True)
class Report:
    """What was written, and the result table as text."""

    html: Path
    markdown: Path
    pictures: tuple[Path, ...]
    table: str


@dataclass(frozen=True)
class Content:
    """Everything that a report says, before it is a page, a file or a terminal's text."""

    runs: Runs
    reference: str
    answer: str
    lost: list[str]
    claims: list[str]
    methods: list[str]
    verdicts: Table
    cells: Table
    detail: Table
    paper: Table
    tuned: list[Pair]


def check_drawable() -> None:
    """Raise `MissingExtra` unless what draws the report is installed; nothing is loaded."""
    for module in ("matplotlib", "plotly"):
        if importlib.util.find_spec(module) is None:
            raise missing_extra("the report of a comparison", "compare", module)


def content(runs: Runs) -> Content:
    """Return what there is to say about these runs."""
    ours, baselines, reference = analysis.sides(runs.schedules)
    pairs = {
        condition: [
            analysis.compare(runs, mine, baseline, condition)
            for mine in ours
            for baseline in baselines
        ]
        for condition in analysis.CONDITIONS
    }
    tuned, same = pairs["tuned"], pairs["same rate"]
    against = [
        analysis.compare(runs, name, reference) for name in runs.schedules if name != reference
    ]
    reached = outcomes(runs, reference)
    best = words.best(against)
    others = [] if best is None else [x for x in runs.schedules if x != best]
    return Content(
        runs=runs,
        reference=reference,
        answer=words.answer(best, [analysis.compare(runs, x, best or x) for x in others]),
        lost=words.losses(tuned),
        claims=words.claims(tuned),
        methods=words.methods(runs, reference),
        verdicts=tables.verdict_table([*tuned, *same]),
        cells=tables.cell_table(reached, against, reference),
        detail=tables.detail_table(reached),
        paper=tables.paper_table([*tuned, *same]),
        tuned=tuned,
    )


def write(store: Store) -> Report:
    """Write the report of the last comparison in a store beside its runs.

    Args:
        store: where the runs are.

    Raises:
        StoreError: there was no comparison.
        CannotWrite: the disk is full, or the folder is read-only.
        MissingExtra: what it is drawn with is not installed.
    """
    check_drawable()
    said = content(analysis.load(store))
    pictures = _pictures(said, store.folder / "figures")
    markdown = store.folder / "report.md"
    writing.write(markdown, _markdown(said, [path.name for path in pictures]))
    index = store.folder / "index.html"
    writing.write(index, _page(said))
    sentences = (said.answer, *said.lost, *said.claims)
    said_last = [textwrap.fill(line, 88) for line in sentences]
    text = "\n\n".join([said.cells.terminal(keys=2), *said_last, f"report: {index}"])
    return Report(index, markdown, tuple(pictures), text)


_TITLE = "Learning-rate schedules compared"
_PICTURES = (
    ("schedules", "The rates that each method drew", "at its tuned rate; median and quartiles"),
    ("histories", "Validation loss", "judged runs; median and quartiles"),
    ("rates", "Final test loss against base rate", "tuning seeds; median and range, capped"),
)


def _panels(said: Content) -> dict[str, list[plotting.Panel]]:
    return {
        "schedules": panels.drawn_schedules(said.runs),
        "histories": panels.histories(said.runs),
        "rates": panels.rates(said.runs),
    }


def _pictures(said: Content, folder: Path) -> list[Path]:
    paths = []
    for name, drawn in _panels(said).items():
        if drawn:
            paths.append(folder / f"{name}.png")
            plotting.save_panels(drawn, paths[-1])
    forest = panels.forest(said.tuned, panels.colours(said.runs), said.reference)
    if forest.bars:
        paths.append(folder / "forest.png")
        plotting.save_forest(forest, paths[-1])
    return paths


def _facts(said: Content) -> str:
    versions = said.runs.records[0].versions if said.runs.records else {}
    return (
        f"{len(said.runs.records)} runs; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def _markdown(said: Content, pictures: list[str]) -> str:
    parts = [f"# {_TITLE}", "", escaped(said.answer), ""]
    parts += [f"## {said.cells.caption}", "", said.cells.markdown(), ""]
    parts += [*map(escaped, said.lost), ""]
    parts += [f"- {escaped(claim)}" for claim in said.claims] + [""]
    for table in (said.verdicts, said.detail, said.paper):
        parts += [f"## {table.caption}", "", table.markdown(), ""]
    for name in pictures:
        parts += [f"![{name.removesuffix('.png')}](figures/{name})", ""]
    parts += ["## How it was made", ""] + [f"- {escaped(line)}" for line in said.methods]
    return "\n".join([*parts, "", escaped(_facts(said)), ""])


def _page(said: Content) -> str:
    body = [f"<h1>{_TITLE}</h1>", interactive.paragraphs([said.answer], "lead")]
    body += [page.table(said.cells), interactive.paragraphs(said.lost)]
    body += [interactive.bullets(said.claims), page.table(said.verdicts)]
    drawn = _panels(said)
    for name, title, note in _PICTURES:
        if drawn[name]:
            body += [f"<h2>{title}</h2><p><small>{note}</small></p>"]
            body += [interactive.plot_panels(drawn[name])]
    forest = panels.forest(said.tuned, panels.colours(said.runs), said.reference)
    if forest.bars:
        body += ["<h2>Ratios, cell by cell</h2>", interactive.plot_forest(forest)]
    body += [page.table(said.detail), page.table(said.paper)]
    body += ["<h2>How it was made</h2>", interactive.bullets(said.methods)]
    body += [f"<p><small>{html.escape(_facts(said))}</small></p>"]
    return interactive.page(_TITLE, body)
