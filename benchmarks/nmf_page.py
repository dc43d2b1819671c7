"""What benchmarks/nmf.py measured: its arithmetic, and its page in Markdown."""

from __future__ import annotations

import math
import platform
import statistics
from importlib import metadata
from typing import NamedTuple

from aligned import table

HALS, SGD, MINI, CD = "hals", "sgd", "MiniBatchNMF", "NMF(cd)"


class Spread(NamedTuple):
    """A median, and the least and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.median):
            return "neither"
        if math.isinf(self.median):
            return "only ours"
        if self.median == 0.0:
            return "not reached"
        return f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"


class Result(NamedTuple):
    """One set; `times` are seconds by (contender, error), one a repetition, inf if not reached."""

    name: str
    shape: tuple[int, int]
    numbers: int  #: stored
    k: int
    stop: float  #: the error that MiniBatchNMF stops with
    best: float  #: the least that anybody found
    times: dict[tuple[str, str], tuple[float, ...]]
    most: float  #: seconds that a run was given

    def ratio(self, slow: tuple[str, str], fast: tuple[str, str]) -> Spread:
        """Return how many times faster: of the pairs of one repetition.

        inf: only the fast one got there; 0: only the slow one; NaN: neither.
        """
        pairs = zip(self.times[slow], self.times[fast], strict=True)
        ratios = sorted(_ratio(a, b) for a, b in pairs)
        return Spread(statistics.median(ratios), ratios[0], ratios[-1])

    def seconds(self, key: tuple[str, str]) -> str:
        """Return the median time in words."""
        median = statistics.median(self.times[key])
        return f"> {self.most:g}" if math.isinf(median) else f"{median:.3g}"


class Default(NamedTuple):
    """What a contender ends with under its own default settings."""

    name: str
    kind: str
    seconds: float
    error: float  #: over the best
    passes: int


class Memory(NamedTuple):
    """Peak bytes beside the data and the start; what the statistics of batches take; W's bytes."""

    name: str
    hals: int
    sgd: int
    mini: int
    stored: int
    w: int


class Growth(NamedTuple):
    """Seconds of three passes over matrices with more and more numbers stored."""

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """The slope of log time on log size by least squares: 1 is linear."""
        logs = [[math.log(value) for value in values] for values in (self.sizes, self.seconds)]
        return statistics.linear_regression(*logs).slope


class Report(NamedTuple):
    """All that was measured."""

    results: list[Result]
    defaults: list[Default]
    memories: list[Memory]
    growth: list[Growth]
    repeats: int


def _ratio(slow: float, fast: float) -> float:
    if math.isinf(fast):
        return math.nan if math.isinf(slow) else 0.0
    return slow / fast


def verdicts(report: Report) -> list[tuple[str, str, str]]:
    """Return what was wanted, what was measured, and whether it is met or missed."""
    lines: list[tuple[str, str, str]] = []

    def judge(wanted: str, ratios: dict[str, float], least: float) -> None:
        ratios = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
        low = min(ratios, key=lambda name: ratios[name])
        short = [name for name, ratio in ratios.items() if ratio < least]
        words = f"{len(ratios) - len(short)} of {len(ratios)} sets; least {ratios[low]:.1f} ({low})"
        if short:
            words += f"; short on {', '.join(short)}"
        lines.append((wanted, words, "missed" if short else "met"))

    to_stop = {
        kind: {r.name: r.ratio((MINI, "stop"), (kind, "stop")).median for r in report.results}
        for kind in (HALS, SGD)
    }
    judge("hals: >= 5x faster to MiniBatchNMF's stopping error", to_stop[HALS], 5.0)
    judge("hals: 10x (the goal on most sets)", to_stop[HALS], 10.0)
    judge("sgd: >= 2x faster to MiniBatchNMF's stopping error", to_stop[SGD], 2.0)
    close = {r.name: close_ratio(r).median for r in report.results}
    tall = {name: ratio for name, ratio in close.items() if name.startswith("dense")}
    judge("hals: >= 2x faster than NMF(cd) to 1% above the best, tall dense", tall, 2.0)
    judge("hals: never more than 1.5x slower than NMF(cd) to there", close, 1 / 1.5)
    over = {m.name: (m.mini + m.stored) / m.hals for m in report.memories}
    judge("hals: no more memory than MiniBatchNMF and the statistics", over, 1.0)
    steep = max(growth.exponent for growth in report.growth)
    words = ", ".join(f"{g.name} {g.exponent:.2f}" for g in report.growth)
    linear = "met" if steep < 1.1 else "missed"
    lines.append(("a pass: linear in the stored numbers", f"exponent {words}", linear))
    return lines


def close_ratio(result: Result) -> Spread:
    """Return NMF(cd) over hals to 1% above the best; where NMF never gets there, above its own."""
    ratio = result.ratio((CD, "close"), (HALS, "close"))
    if math.isfinite(ratio.median) and ratio.median > 0.0:
        return ratio
    return result.ratio((CD, "own"), (HALS, "own"))


def page(report: Report, command: str) -> str:
    """Return the page."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scikit-learn"))
    lines = [
        "# How fast StochasticNMF is",
        "",
        f"Made by `{command}`.",
        "",
        f"Python {platform.python_version()}, {versions}, {platform.system()} "
        f"{platform.machine()}; one thread, one process, float64. All start from the same NNDSVDa",
        f"pair, which is on nobody's clock; {report.repeats} interleaved repetitions; ratios are "
        "of one",
        "repetition: median (least to largest). Errors are |X - W H|, of each contender's own W",
        "and H, worked out once a pass while the clock stands still.",
        "",
        *table(("wanted", "measured", ""), verdicts(report), left=3),
        "## To the error that MiniBatchNMF stops with",
        "",
        "MiniBatchNMF with its default settings runs until it stops; the others until they are as",
        "good. In seconds, and times faster than MiniBatchNMF.",
        "",
        *table(
            ("set", "n x m, stored", "k", MINI, "hals", "sgd", "hals, ratio", "sgd, ratio"),
            [
                (
                    r.name,
                    f"{r.shape[0]} x {r.shape[1]}, {r.numbers:,}",
                    str(r.k),
                    r.seconds((MINI, "stop")),
                    r.seconds((HALS, "stop")),
                    r.seconds((SGD, "stop")),
                    str(r.ratio((MINI, "stop"), (HALS, "stop"))),
                    str(r.ratio((MINI, "stop"), (SGD, "stop"))),
                )
                for r in report.results
            ],
        ),
        "## To 1% above the best error",
        "",
        'Best: the least error that any of them found. "NMF\'s own best": to 1% above the least',
        "error that NMF(cd) itself found, however long it ran; it counts where NMF(cd) ends in a",
        "worse local minimum and never comes within 1% of the best.",
        "",
        *table(
            ("set", "NMF(cd)", "hals", "ratio", "NMF's own best, ratio"),
            [
                (
                    r.name,
                    r.seconds((CD, "close")),
                    r.seconds((HALS, "close")),
                    str(r.ratio((CD, "close"), (HALS, "close"))),
                    str(r.ratio((CD, "own"), (HALS, "own"))),
                )
                for r in report.results
            ],
        ),
        "## With default settings",
        "",
        "Where each stops by itself: seconds, error over the best, passes. One run.",
        "",
        *table(
            ("set", *(kind for kind in (HALS, SGD, MINI, CD))),
            [
                (
                    r.name,
                    *(
                        f"{d.seconds:.3g} s, {d.error:.4f}, {d.passes}"
                        for kind in (HALS, SGD, MINI, CD)
                        for d in report.defaults
                        if (d.name, d.kind) == (r.name, kind)
                    ),
                )
                for r in report.results
            ],
        ),
        "## Memory",
        "",
        "The most that a fit of two passes has allocated at any time (`tracemalloc`), in MB,",
        "beside the data and the start that it is given. `statistics` is ceil(n / batch) k (k + m)",
        "numbers of hals, which `max_memory` bounds; `W` the result's own size.",
        "",
        *table(
            ("set", MINI, "statistics", "hals", "sgd", "W"),
            [
                (m.name, *(f"{x / 1e6:.1f}" for x in (m.mini, m.stored, m.hals, m.sgd, m.w)))
                for m in report.memories
            ],
        ),
        "## Cost of a pass over the stored numbers",
        "",
        "Seconds of three passes (the least of three) over random sparse matrices of one width and",
        "more and more rows; the exponent is the slope of log time on log size: 1 is linear.",
        "",
    ]
    for growth in report.growth:
        head = (growth.name, *(f"{size:,}" for size in growth.sizes), "exponent")
        cells = ("seconds", *(f"{x:.3g}" for x in growth.seconds), f"{growth.exponent:.2f}")
        lines += table(head, [cells])
    return "\n".join(lines).rstrip() + "\n"
