"""What benchmarks/simulator.py measured: its arithmetic, and its page in Markdown."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from aligned import table

TINY, SMALL, MLP = "tiny mlp", "small mlp", "mlp batch 64"
CONVOLUTIONAL = ("lenet", "vgg", "resnet")
TRANSFORMERS = ("vit", "deep-transformer", "wide-transformer")
NOTHING = "-"


class Spread(NamedTuple):
    """A median, and the span from the 10th to the 90th percentile."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the span of one value or more."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Spread(statistics.median(values), tenths[0], tenths[-1])


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
        return spread([s / loop for loop, s in zip(self.loops, self.stacks, strict=True)])

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


class Growth(NamedTuple):
    """Seconds of `simulate.run` over one size, all else fixed."""

    name: str
    over: str  #: "steps" or "runs"
    fixed: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """The slope of log time on log size by least squares: 1 is linear."""
        return statistics.linear_regression(
            [math.log(size) for size in self.sizes], [math.log(time) for time in self.seconds]
        ).slope


class Report(NamedTuple):
    """One device's results."""

    device: str  #: in words
    families: list[Family]
    cells: list[Cell]
    growth: list[Growth]
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


def verdicts(report: Report) -> list[tuple[str, str, str]]:
    """Return what was wanted, what was measured, and whether it is met or missed."""
    lines: list[tuple[str, str, str]] = []

    def judge(wanted: str, cell: Cell | None, least: float, by_ratio: bool = True) -> None:
        if cell is None or not cell.loops:
            lines.append((wanted, "not measured", NOTHING))
            return
        if by_ratio:
            value, words = cell.ratio.median, f"{cell.ratio.median:.1f}x ({cell.ratio})"
        else:
            value, words = cell.speed, f"{cell.speed:,.0f}/s"
        lines.append((wanted, f"{words}, {cell.runs} stacked", _met(value >= least)))

    judge(f"{MLP}: >= 5x", report.best(MLP), 5.0)
    exact = next((cell for cell in report.of(TINY) if cell.runs == 256), None)
    judge(f"{TINY}, N = 256: >= 30x", exact, 30.0)
    for name in (*CONVOLUTIONAL, *TRANSFORMERS):
        judge(f"{name}: >= 2x", report.best(name), 2.0)
    judge(f"{SMALL}: >= 60,000 run-steps/s", report.best(SMALL), 6e4, by_ratio=False)
    chosen = [(cell, auto) for cell in report.cells if (auto := report.auto(cell))]
    slower = [(cell, auto) for cell, auto in chosen if auto.ratio.median < 1.0]
    clear = sum(auto.ratio.high < 1.0 for _, auto in slower)
    words = f"{len(slower)} of {len(chosen)} slower"
    if slower:
        words += f" ({clear} clearly), N = " + ", ".join(
            str(n) for n in sorted({cell.runs for cell, _ in slower})
        )
        words += f"; least {min(auto.ratio.median for _, auto in slower):.2f}x"
    lines.append(("never slower", words, _met(not slower and bool(chosen))))
    alone = [spread(f.alone).median for f in report.families if f.alone]
    if alone:
        words = f"{sum(ratio < 1.0 for ratio in alone)} of {len(alone)} slower"
        words += f"; least {min(alone):.2f}x"
        wanted = "N = 1, the loop records as much"
        lines.append((wanted, words, _met(min(alone) >= 1.0)))
    return lines


def _met(met: bool) -> str:
    return "met" if met else "missed"


def section(report: Report) -> list[str]:
    """Return one device's tables."""
    sizes = sorted({cell.runs for cell in report.cells})
    lines = [
        "### Wanted",
        "",
        *table(("wanted", "measured", ""), verdicts(report), left=3),
        'Without an N: at the stack that `chunk="auto"` takes for the largest. Slower: the median',
        "at the stack that is taken is below 1, clearly: and the 90th percentile, too.",
        "",
        "### Ratio to the ordinary loop",
        "",
        "Run-steps a second of a stack of exactly N over those of the loop beside it; medians.",
        "",
        *table(
            ("family", *(f"N = {size}" if size == 1 else f"{size}" for size in sizes), "auto"),
            [_ratios(report, family.name, sizes) for family in report.families],
        ),
        '`auto`: at the stack, in brackets, that `chunk="auto"` takes for the largest N.',
        "",
        "### Every pair",
        "",
        "Run-steps a second. The span is that of the pairs' ratios, 10th to 90th percentile;",
        "`auto` is the stack that is taken for N runs.",
        "",
        *table(
            ("family", "N", "loop", "stack of N", "ratio", "10-90%", "auto", "of roof"),
            [_detail(report, cell) for cell in report.cells],
        ),
        "### The families",
        "",
        "Of the ordinary loop: the faster way to write its model, its steps a second, how many",
        "times as fast `AdamW(fused=True)` makes it. `N = 1` is a stack of one over a loop that",
        "records gradient norm and relative update, too. Set-up is what a run takes before its",
        "first step: weights, data, the clean loss.",
        "",
        *table(
            ("family", "parameters", "batch", "model", "loop", "fused", "N = 1", "set-up ms"),
            [
                (
                    f.name,
                    f"{f.parameters:,}",
                    str(f.batch or NOTHING),
                    f.baseline,
                    f"{f.loop:,.0f}",
                    f"{f.fused:.2f}",
                    f"{spread(f.alone).median:.2f}" if f.alone else NOTHING,
                    f"{1e3 * f.setup:.2f}",
                )
                for f in report.families
            ],
        ),
        *_roofline(report),
        *_growth(report),
    ]
    return lines


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
        f"{cell.ratio.median:.2f}",
        str(cell.ratio),
        chunk,
        f"{100 * cell.speed / report.machine.roof(family):.1f}%",
    )


def _roofline(report: Report) -> list[str]:
    machine = report.machine
    rows = []
    for f in report.families:
        best = report.best(f.name) or next(iter(report.of(f.name)[-1:]), None)
        by_bytes = f.bytes / machine.bandwidth >= f.flops / machine.product
        roof = machine.roof(f)
        reached = best is not None and bool(best.loops)
        rows.append(
            (
                f.name,
                f"{f.bytes / 1e3:,.1f}",
                f"{f.flops / 1e6:,.3f}",
                "bytes" if by_bytes else "products",
                f"{roof:,.0f}",
                f"{best.speed:,.0f}" if best and reached else NOTHING,
                f"{100 * best.speed / roof:.1f}%" if best and reached else NOTHING,
            )
        )
    return [
        "### The roofline",
        "",
        f"Measured here: {machine.bandwidth / 1e9:,.1f} GB/s in a big copy (read and written), "
        f"{machine.product / 1e9:,.1f} GFLOP/s",
        "in a big product. A run's step moves at least 40 bytes a parameter (weights for forward",
        "and backward, gradient, AdamW's two averages), its batch, and what the forward keeps,",
        "twice; operations are products and convolutions alone. A stack that fits a cache may",
        "exceed what memory allows. Run-steps a second at `auto`:",
        "",
        *table(
            ("family", "kB a step", "MFLOP", "bound by", "roof", "measured", "of roof"),
            rows,
        ),
    ]


def _growth(report: Report) -> list[str]:
    if not report.growth:
        return []
    lines = [
        "### Cost over steps and runs",
        "",
        "Seconds of `simulate.run`, set-up included (the lesser of two); the exponent is the slope",
        "of log time on log size: 1 is linear.",
        "",
    ]
    for grown in report.growth:
        head = (f"{grown.name}, {grown.fixed}", *(f"{size}" for size in grown.sizes), "exponent")
        times = (*(f"{seconds:.3g}" for seconds in grown.seconds), f"{grown.exponent:.2f}")
        lines += table(head, [(f"seconds, over {grown.over}", *times)])
    return lines


def page(reports: Sequence[Report], command: str, about: str) -> str:
    """Return the page; without a GPU among the reports it says so.

    Args:
        reports: one a device.
        command: that made it.
        about: what was measured, with what.
    """
    about = textwrap.fill(about, 99)
    lines = ["# How fast the simulator is", "", f"Made by `{command}`.", "", about, ""]
    for report in reports:
        lines += [f"## {report.device}", "", *section(report)]
    if not any(report.device.startswith("GPU") for report in reports):
        lines += ["## GPU", "", "GPU: not measured."]
    return "\n".join(lines).rstrip() + "\n"
