"""The article's sentences as claims, each with what came out of testing it."""

from __future__ import annotations

import math
from typing import NamedTuple

from evidence.article import numbers
from evidence.article.numbers import Cell, Count, Parts, Speed, cell, methods
from evidence.article.plan import Settings
from evidence.claims import Claim, outcome
from ratewise.compare.statistics import Interval

#: "in more than 90%" of comparisons.
GOAL = 0.9
_KINDS = {"element": "a rate a parameter", "tensor": "a rate a tensor"}


class Rival(NamedTuple):
    """GreedyLR against a method that chooses the rate itself."""

    name: str
    counts: Count
    speed: Speed | None  #: of a line search alone

    @property
    def kind(self) -> str:
        """How many rates hypergradient descent keeps, in words."""
        return _KINDS.get(self.name.split("-")[1], "a rate a group")

    @property
    def held(self) -> bool | None:
        """Whether GreedyLR is sooner than a line search, or ends below hypergradient descent."""
        if self.speed is not None:
            s = self.speed
            sooner = s.seconds < 1.0 and s.sooner > s.later
            return sooner or (False if s.seconds > 1.0 and s.later > s.sooner else None)
        _, low, high = self.counts.overall.ratio()
        return high < 1.0 or (False if low > 1.0 else None)


class Found(NamedTuple):
    """What is said of each sentence."""

    schedules: Count
    rivals: list[Rival]
    slope: Interval  #: of the log-ratio to cosine, over a tenfold of parameters
    lora: Cell | None

    @property
    def larger(self) -> bool | None:
        """Whether it is the better the larger the model."""
        return self.slope.high < 0.0 or (False if self.slope.low > 0.0 else None)


def found(parts: Parts, settings: Settings) -> Found:
    """Return what came out for each of the article's sentences."""
    judged, adapted = methods([*parts.schedules, *parts.rivals]), methods(parts.lora)
    rivals = [
        Rival(
            name,
            numbers.against_rival(judged, "greedy", name, 1.0),
            numbers.rival_speed(judged, "greedy", name) if name.startswith("line-search") else None,
        )
        for name in numbers.present(judged)
    ]
    ours = next(method for method in adapted if method.schedule == "greedy")
    return Found(
        numbers.against_schedules(judged, "greedy", settings.baselines, 1.0),
        rivals,
        numbers.slope(numbers.sizes(methods(parts.sizes), "cosine")),
        cell(adapted, ours, ours._replace(schedule="cosine")),
    )


def claims(said: Found) -> list[Claim]:
    """Return the sentences as claims."""
    counts, claimed = said.schedules, []
    for words, share in (
        ("by intervals", counts.as_good),
        ("by the paper's count, which forgives 0.1", counts.paper_as_good),
    ):
        title = f"as good as the usual schedules in more than 90% of comparisons, {words}"
        claimed.append(Claim(title, "> 90%", f"{100 * share:.0f}%", "", outcome(share > GOAL)))
    for one in said.rivals:
        if one.speed is not None:
            title, seconds = f"faster than stochastic line search ({one.name})", one.speed.seconds
            value = "-" if math.isnan(seconds) else f"{seconds:.2f}"
            claimed.append(Claim(title, "< 1 times its time", value, "", outcome(one.held)))
        else:
            title = f"lower than hypergradient descent ({one.name}, {one.kind})"
            claimed.append(_ratio(title, "< 1", one.counts.overall, one.held))
    value, span = f"{said.slope.estimate:+.4f}", f"[{said.slope.low:+.4f}, {said.slope.high:+.4f}]"
    title = "especially for large models: the change of ln(loss / cosine's) a tenfold"
    claimed.append(Claim(title, "< 0", value, span, outcome(said.larger)))
    if said.lora is not None:
        word = said.lora.verdict
        held = False if word == "worse" else None if word == "undecided" else True
        title = "LoRA: as good as tuned cosine"
        claimed.append(_ratio(title, "<= 1.02 [95%]", said.lora.interval, held))
    return claimed


def _ratio(title: str, wanted: str, interval: Interval, held: bool | None) -> Claim:
    middle, low, high = interval.ratio()
    return Claim(title, wanted, f"{middle:.3f}", f"[{low:.3f}, {high:.3f}]", outcome(held))
