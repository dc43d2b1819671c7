"""How fast the simulator is, from what was measured: ratios, goals, and the page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.timing import Growth, Spread

TINY, SMALL, MLP = "tiny mlp", "small mlp", "mlp batch 64"
CONVOLUTIONAL = ("lenet", "vgg", "resnet")
TRANSFORMERS = ("vit", "deep-transformer", "wide-transformer")
NOTHING = "-"
#: Of the pairs' ratios within a span: from the 10th to the 90th percentile.
SHARE = 0.8


class Cell(NamedTuple):
    """One family at one number of runs: run-steps a second, pair by pair."""

    name: str
    runs: int
    loops: tuple[float, ...] = ()
    stacks: tuple[float, ...] = ()
    chunk: int = 0  #: what chunk="auto" takes; 0 where that was not asked
    why: str = ""  #: it was left out

    @property
    def ratio(self) -> Spread:
        """Of the stack to the loop."""
        pairs = zip(self.loops, self.stacks, strict=True)
        return Spread.of([stack / loop for loop, stack in pairs], SHARE)

    @property
    def speed(self) -> float:
        """Median run-steps a second of the stack."""
        return statistics.median(self.stacks)


class Family(NamedTuple):
    """What is measured once a family; `loop` is in steps a second."""

    name: str
    parameters: int
    batch: int
    baseline: str  #: the model that makes the faster loop
    loop: float
    fused: float  #: the loop with AdamW(fused=True), over the loop
    alone: tuple[float, ...]  #: a stack of one over a loop that records as much
    setup: float  #: seconds a run
    bytes: float  #: a run and step, at least
    flops: float


class Machine(NamedTuple):
    """A device's rates, measured in the same process."""

    bandwidth: float  #: bytes a second
    product: float  #: operations a second

    def roof(self, family: Family) -> float:
        """Return the run-steps a second that neither rate allows to exceed."""
        return 1.0 / max(family.bytes / self.bandwidth, family.flops / self.product)


class Grown(NamedTuple):
    """Seconds of `simulate.run` over one size."""

    over: str  #: "steps" or "runs"
    fixed: str
    growth: Growth


class Report(NamedTuple):
    """One device's results."""

    device: str  #: in words
    families: list[Family]
    cells: list[Cell]
    growth: list[Grown]
    machine: Machine

    def of(self, name: str) -> list[Cell]:
        """Return a family's cells, by rising N."""
        return [cell for cell in self.cells if cell.name == name]

    def auto(self, cell: Cell) -> Cell | None:
        """Return the cell whose stack is what chunk="auto" takes for this one's runs."""
        return next((c for c in self.of(cell.name) if c.runs == cell.chunk and c.loops), None)

    def best(self, name: str) -> Cell | None:
        """Return the cell that is taken for a family's largest number of runs."""
        cells = self.of(name)
        return self.auto(cells[-1]) if cells else None


def claims(report: Report) -> list[Claim]:
    """Return what was wanted, and whether it is met; undecided where it was not measured."""
    found: list[Claim] = []

    def judge(title: str, cell: Cell | None, least: float, by_ratio: bool = True) -> None:
        wanted = f">= {least:,g}{'x' if by_ratio else ' run-steps/s'}"
        if cell is None or not cell.loops:
            found.append(Claim(title, wanted, "not measured", "", outcome(None)))
            return
        value = cell.ratio.median if by_ratio else cell.speed
        words = f"{value:.1f}x ({cell.ratio.cells(2)[1]})" if by_ratio else f"{value:,.0f}/s"
        words += f", {cell.runs} stacked"
        found.append(Claim(title, wanted, words, "", outcome(value >= least)))

    judge(MLP, report.best(MLP), 5.0)
    exact = next((cell for cell in report.of(TINY) if cell.runs == 256), None)
    judge(f"{TINY}, N = 256", exact, 30.0)
    for name in (*CONVOLUTIONAL, *TRANSFORMERS):
        judge(name, report.best(name), 2.0)
    judge(SMALL, report.best(SMALL), 6e4, by_ratio=False)
    chosen = [(cell, auto) for cell in report.cells if (auto := report.auto(cell))]
    slower = [(cell, auto) for cell, auto in chosen if auto.ratio.median < 1.0]
    clear = sum(auto.ratio.high < 1.0 for _, auto in slower)
    words = f"{len(slower)} of {len(chosen)} slower"
    if slower:
        sizes = ", ".join(str(n) for n in sorted({cell.runs for cell, _ in slower}))
        least = min(auto.ratio.median for _, auto in slower)
        words += f" ({clear} clearly), N = {sizes}; least {least:.2f}x"
    held = outcome(not slower and bool(chosen))
    found.append(Claim("never slower", ">= 1x", words, "", held))
    alone = [statistics.median(f.alone) for f in report.families]
    words = f"{sum(x < 1.0 for x in alone)} of {len(alone)} slower; least {min(alone):.2f}x"
    title, held = "N = 1, the loop records as much", outcome(min(alone) >= 1.0)
    found.append(Claim(title, ">= 1x", words, "", held))
    return found


def tables(report: Report) -> dict[str, Any]:
    """Return the rows of one device's tables."""
    sizes = sorted({cell.runs for cell in report.cells})
    return {
        "device": report.device,
        "sizes": [f"N = {size}" if size == 1 else f"{size}" for size in sizes],
        "ratios": [_ratios(report, family.name, sizes) for family in report.families],
        "pairs": [_detail(report, cell) for cell in report.cells],
        "families": [_family(family) for family in report.families],
        "bandwidth": f"{report.machine.bandwidth / 1e9:,.1f}",
        "product": f"{report.machine.product / 1e9:,.1f}",
        "roofs": [_roof(report, family) for family in report.families],
        "growth": [_growth(one) for one in report.growth],
    }


def _family(f: Family) -> list[Any]:
    speeds = [f"{f.loop:,.0f}", f"{f.fused:.2f}", f"{statistics.median(f.alone):.2f}"]
    return [
        f.name,
        f"{f.parameters:,}",
        f.batch or NOTHING,
        f.baseline,
        *speeds,
        f"{1e3 * f.setup:.2f}",
    ]


def _growth(one: Grown) -> tuple[list[Any], list[str]]:
    """Return the header and the row of a table."""
    name, sizes, seconds = one.growth
    shown = [f"{x:.3g}" for x in seconds]
    return (
        [f"{name}, {one.fixed}", *sizes, "exponent"],
        [f"seconds, over {one.over}", *shown, f"{one.growth.exponent:.2f}"],
    )


def _ratios(report: Report, name: str, sizes: Sequence[int]) -> tuple[str, ...]:
    by_size = {cell.runs: cell for cell in report.of(name)}
    cells = [by_size.get(size) for size in sizes]
    best = report.best(name)
    return (
        name,
        *(f"{c.ratio.median:.1f}" if c and c.loops else NOTHING for c in cells),
        f"{best.ratio.median:.1f} ({best.runs})" if best else NOTHING,
    )


def _detail(report: Report, cell: Cell) -> tuple[str, ...]:
    chunk = str(cell.chunk) if cell.chunk else NOTHING
    if not cell.loops:
        return (cell.name, str(cell.runs), NOTHING, "left out:", cell.why, "", chunk, NOTHING)
    family = next(f for f in report.families if f.name == cell.name)
    return (
        cell.name,
        str(cell.runs),
        f"{statistics.median(cell.loops):,.0f}",
        f"{cell.speed:,.0f}",
        *cell.ratio.cells(2),
        chunk,
        f"{100 * cell.speed / report.machine.roof(family):.1f}%",
    )


def _roof(report: Report, f: Family) -> tuple[str, ...]:
    machine = report.machine
    best = report.best(f.name) or next(iter(report.of(f.name)[-1:]), None)
    roof = machine.roof(f)
    reached = best.speed if best is not None and best.loops else None
    return (
        f.name,
        f"{f.bytes / 1e3:,.1f}",
        f"{f.flops / 1e6:,.3f}",
        "bytes" if f.bytes / machine.bandwidth >= f.flops / machine.product else "products",
        f"{roof:,.0f}",
        f"{reached:,.0f}" if reached is not None else NOTHING,
        f"{100 * reached / roof:.1f}%" if reached is not None else NOTHING,
    )


def report_from(kept: dict[str, Any]) -> Report:
    """Return a report as it was before it was kept."""
    return Report(
        kept["device"],
        [Family(**one) for one in kept["families"]],
        [Cell(**one) for one in kept["cells"]],
        [Grown(one["over"], one["fixed"], Growth(**one["growth"])) for one in kept["growth"]],
        Machine(**kept["machine"]),
    )


def text(measured: dict[str, Any]) -> str:
    """Return the page; without a GPU among the reports it says so."""
    reports = [report_from(one) for one in measured.pop("reports")]
    devices = [tables(report) for report in reports]
    claimed = [
        replace(claim, title=f"{report.device}, {claim.title}" if len(reports) > 1 else claim.title)
        for report in reports
        for claim in claims(report)
    ]
    gpu = any(report.device.startswith("GPU") for report in reports)
    return pages.render("speed/simulator.md.j2", claimed, devices=devices, gpu=gpu, **measured)
