"""How fast StochasticNMF is, from what was measured: ratios, goals, and the page."""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.timing import Growth, Spread

HALS, SGD, MINI, CD = "hals", "sgd", "MiniBatchNMF", "NMF(cd)"


def shown(ratio: Spread) -> str:
    """Return a ratio with its least and its largest, or what stands for none.

    >>> shown(Spread(2.0, 1.0, 3.0)), shown(Spread(math.inf, 1.0, math.inf))
    ('2.0 (1.0 to 3.0)', 'only ours')
    """
    if math.isnan(ratio.median):
        return "neither"
    if math.isinf(ratio.median):
        return "only ours"
    if ratio.median == 0.0:
        return "not reached"
    return "{} ({})".format(*ratio.cells(1))


class Result(NamedTuple):
    """One set; `times` are seconds by contender and error, one a repetition, inf if not reached."""

    name: str
    shape: tuple[int, int]
    numbers: int  #: stored
    k: int
    stop: float  #: the error that MiniBatchNMF stops with
    best: float  #: the least that anybody found
    times: dict[str, list[float]]
    most: float  #: seconds that a run was given

    def ratio(self, slow: str, fast: str) -> Spread:
        """Return how many times faster: of the pairs of one repetition.

        inf: only the fast one got there; 0: only the slow one; NaN: neither.
        """
        pairs = zip(self.times[slow], self.times[fast], strict=True)
        return Spread.of([_ratio(a, b) for a, b in pairs], 1.0)

    def seconds(self, key: str) -> str:
        """Return the median time, or more than what a run was given."""
        median = statistics.median(self.times[key])
        return f"> {self.most:g}" if math.isinf(median) else f"{median:.3g}"


class Memory(NamedTuple):
    """Peak bytes beside the data and the start; what the statistics of batches take; W's bytes."""

    name: str
    hals: int
    sgd: int
    mini: int
    stored: int
    w: int


def _ratio(slow: float, fast: float) -> float:
    if math.isinf(fast):
        return math.nan if math.isinf(slow) else 0.0
    return slow / fast


def claims(results: list[Result], memories: list[Memory], growth: list[Growth]) -> list[Claim]:
    """Return what was wanted, and whether it is so on every set."""
    found: list[Claim] = []

    def judge(wanted: str, ratios: dict[str, float], least: float) -> None:
        ratios = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
        low = min(ratios, key=lambda name: ratios[name])
        short = [name for name, ratio in ratios.items() if ratio < least]
        words = f"{len(ratios) - len(short)} of {len(ratios)} sets; least {ratios[low]:.1f} ({low})"
        if short:
            words += f"; short on {', '.join(short)}"
        found.append(Claim(wanted, "all sets", words, "", outcome(not short)))

    for kind, least, words in (
        (HALS, 5.0, ">= 5x faster to MiniBatchNMF's stopping error"),
        (HALS, 10.0, "10x (the goal on most sets)"),
        (SGD, 2.0, ">= 2x faster to MiniBatchNMF's stopping error"),
    ):
        ratios = {r.name: r.ratio(f"{MINI} stop", f"{kind} stop").median for r in results}
        judge(f"{kind}: {words}", ratios, least)
    close = {r.name: close_ratio(r).median for r in results}
    tall = {name: ratio for name, ratio in close.items() if name.startswith("dense")}
    judge("hals: >= 2x faster than NMF(cd) to 1% above the best, tall dense", tall, 2.0)
    judge("hals: never more than 1.5x slower than NMF(cd) to there", close, 1 / 1.5)
    over = {m.name: (m.mini + m.stored) / m.hals for m in memories}
    judge("hals: no more memory than MiniBatchNMF and the statistics", over, 1.0)
    steep = max(g.exponent for g in growth)
    words = ", ".join(f"{g.name} {g.exponent:.2f}" for g in growth)
    title = "a pass: linear in the stored numbers"
    found.append(Claim(title, "< 1.1", f"exponent {words}", "", outcome(steep < 1.1)))
    return found


def close_ratio(result: Result) -> Spread:
    """Return NMF(cd) over hals to 1% above the best; where NMF never gets there, above its own."""
    ratio = result.ratio(f"{CD} close", f"{HALS} close")
    if math.isfinite(ratio.median) and ratio.median > 0.0:
        return ratio
    return result.ratio(f"{CD} own", f"{HALS} own")


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    results = [Result(**one) for one in measured["results"]]
    memories = [Memory(**one) for one in measured["memories"]]
    growth = [Growth(**one) for one in measured["growth"]]
    return pages.render(
        "speed/nmf_speed.md.j2",
        claims(results, memories, growth),
        repeats=measured["repeats"],
        on=measured["on"],
        growth=growth,
        stop=[_stop(result) for result in results],
        close=[_close(result) for result in results],
        defaults=[_defaults(result.name, measured["defaults"]) for result in results],
        memory=[
            [m.name, *(f"{x / 1e6:.1f}" for x in (m.mini, m.stored, m.hals, m.sgd, m.w))]
            for m in memories
        ],
    )


def _stop(r: Result) -> list[Any]:
    size = f"{r.shape[0]} x {r.shape[1]}, {r.numbers:,}"
    seconds = [r.seconds(f"{kind} stop") for kind in (MINI, HALS, SGD)]
    ratios = [shown(r.ratio(f"{MINI} stop", f"{kind} stop")) for kind in (HALS, SGD)]
    return [r.name, size, r.k, *seconds, *ratios]


def _close(r: Result) -> list[str]:
    seconds = [r.seconds(f"{kind} close") for kind in (CD, HALS)]
    ratios = [shown(r.ratio(f"{CD} {error}", f"{HALS} {error}")) for error in ("close", "own")]
    return [r.name, *seconds, *ratios]


def _defaults(name: str, ended: list[dict[str, Any]]) -> list[str]:
    by_kind = {one["kind"]: one for one in ended if one["name"] == name}
    told = "{seconds:.3g} s, {error:.4f}, {passes}"
    return [name, *(told.format(**by_kind[kind]) for kind in (HALS, SGD, MINI, CD))]
