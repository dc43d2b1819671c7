"""The article's sentences as claims, each with what came out of testing it."""

from __future__ import annotations

import math
from typing import NamedTuple

from evidence.article import numbers
from evidence.article.numbers import (
    GOAL,
    Count,
    Diversity,
    Parts,
    Speed,
    cell,
    methods,
)
from evidence.article.plan import SIZED, Settings
from evidence.claims import UNJUDGED, Claim, below, outcome
from ratewise.compare.analysis import TaskComparison
from ratewise.compare.statistics import MARGIN, Interval, cell_interval

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
        found = self.counts.overall if self.speed is None else self.speed.seconds
        return found.high < 0.0 or (False if found.low > 0.0 else None)


class Found(NamedTuple):
    """What is said of each sentence."""

    schedules: Count
    rivals: list[Rival]
    slopes: dict[str, Interval]  #: of the log-ratio to a schedule, over a tenfold of parameters
    lora: TaskComparison | None
    diversity: Diversity

    @property
    def larger(self) -> bool | None:
        """Whether it is the better the larger the model, whatever it is compared with."""
        found = self.slopes.values()
        if all(one.low > 0.0 for one in found):
            return False
        return True if all(one.high < 0.0 for one in found) else None


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
        {x: numbers.slope(numbers.sizes(methods(parts.sizes), x)) for x in SIZED[1:]},
        cell(adapted, ours, ours._replace(schedule="cosine")),
        numbers.diversity(judged, "greedy"),
    )


def claims(said: Found) -> list[Claim]:
    """Return the sentences as claims."""
    counts, goal = said.schedules, said.schedules.goal
    title = "as good as the usual schedules in more than 90% of comparisons, by "
    held = goal.low > GOAL or (False if goal.high < GOAL else None)
    span = f"[{goal.low:.0%}, {goal.high:.0%}] over {goal.n} {goal.over}"
    shares = f"{counts.as_good:.0%}", f"{counts.paper_as_good:.0%}"
    claimed = [Claim(title + "intervals", "> 90%", shares[0], span, outcome(held), p=goal.p)]
    title += "the paper's count, which forgives 0.1"
    claimed.append(Claim(title, "> 90%", shares[1], "", UNJUDGED))
    for one in said.rivals:
        if one.speed is not None:
            title = f"faster than stochastic line search ({one.name}), in time"
            claimed.append(below(title, one.speed.seconds))
        else:
            title = f"lower than hypergradient descent ({one.name}, {one.kind})"
            claimed.append(below(title, one.counts.overall))
    least = max(said.slopes, key=lambda name: said.slopes[name].high)
    one_slope = said.slopes[least]
    value, span = f"{one_slope.estimate:+.4f}", f"[{one_slope.low:+.4f}, {one_slope.high:+.4f}]"
    title = "especially for large models, on one task: the change of ln(loss / theirs) a tenfold, "
    title += f"against each schedule (least sure: {least})"
    claimed.append(Claim(title, "< 0", value, span, outcome(said.larger), p=one_slope.p))
    title = "diverse, dynamic schedules: how much rates differ between tasks over how much within"
    claimed.append(Claim(title, "> 1", f"{said.diversity.ratio:.2f}", "", UNJUDGED))
    if said.lora is not None:
        ratios = said.lora.log_ratios.ravel().tolist()
        against = cell_interval(ratios, null=math.log(MARGIN))
        against = against.unbounded() if said.lora.alone else against
        claimed.append(below("LoRA: as good as tuned cosine", against, MARGIN))
    return claimed
