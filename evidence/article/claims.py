"""The article's sentences as claims, each with what came out of testing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from evidence.article import numbers, plan, rivals
from evidence.article.numbers import GOAL, Count, Diversity, Study
from evidence.article.plan import FALL, OLD, OURS
from evidence.article.rivals import Speed
from evidence.claims import UNJUDGED, Claim, below, outcome
from ratewise.compare.statistics import MARGIN, Interval, mean_interval

#: What GreedyLR is compared with beside the usual schedules, each with what is claimed.
SINGLE = {
    "cosine": "a lower loss than tuned cosine",
    FALL: "a lower loss than a constant rate with the same fall at its end",
    OLD: "a lower loss than the old default",
}
#: With what larger and fine-tuned models are compared.
LARGER = ("cosine", "linear", FALL)


class Rival(NamedTuple):
    """GreedyLR against a method that chooses the rate itself."""

    name: str
    counts: Count
    speed: Speed

    @property
    def kind(self) -> str:
        """What hypergradient descent does to how many rates, in words."""
        form = "multiplicative" if self.name.endswith("multiplicative") else "additive"
        return f"{form}, a rate a {'parameter' if self.name.endswith('element') else 'group'}"

    @property
    def searches(self) -> bool:
        """Whether it is a line search: then time is what is claimed."""
        return self.name.startswith("line-search")

    @property
    def held(self) -> bool | None:
        """Whether GreedyLR is sooner than a line search, or ends below hypergradient descent."""
        found = self.speed.seconds if self.searches else self.counts.overall
        return found.high < 0.0 or (False if found.low > 0.0 else None)


class Found(NamedTuple):
    """What is said of each sentence; of a part that is not complete nothing is."""

    schedules: Count | None
    single: dict[str, Count]
    rivals: list[Rival]
    slopes: dict[str, Interval]  #: of the log-ratio to a schedule, over a tenfold of parameters
    tuned: Count | None  #: fine-tuning, against cosine, with the margin as the null
    diversity: Diversity | None

    @property
    def larger(self) -> bool | None:
        """Whether it is the better the larger the model, whatever it is compared with."""
        found = self.slopes.values()
        if all(one.low > 0.0 for one in found):
            return False
        return True if all(one.high < 0.0 for one in found) else None


def found(study: Study) -> Found:
    """Return what came out for each of the article's sentences, on data that developed nothing."""
    settings, judged = study.settings, study.of(study.tasks)
    compared = study.has(plan.BEFORE)
    met = [
        Rival(name, rivals.against(judged, OURS, name), speed)
        for name in rivals.present(judged)
        if (speed := rivals.speed(judged, study.clocks, name)).pairs
    ]
    sized, tuned = (study.of(tasks) for tasks in (settings.sized, settings.fine_tuned))
    return Found(
        numbers.against(judged, OURS, settings.baselines) if compared else None,
        {x: numbers.against(judged, OURS, [x]) for x in SINGLE} if compared else {},
        met,
        {x: slope(sized, x) for x in LARGER} if study.has(plan.BY_SIZE) else {},
        numbers.against(tuned, OURS, ["cosine"], null=math.log(MARGIN))
        if study.has(plan.TUNING)
        else None,
        numbers.diversity(judged, OURS) if compared else None,
    )


def slope(sized: numbers.Judged, baseline: str) -> Interval:
    """Return the mean slope over data sets."""
    by_source = numbers.sizes(sized, baseline).values()
    return mean_interval([numbers.slopes(x) for x in by_source], over="data sets")


def claims(said: Found) -> list[Claim]:
    """Return the sentences as claims."""
    claimed: list[Claim] = []
    if said.schedules is not None:
        claimed += _as_good(said.schedules)
    claimed += [below(SINGLE[name], x.overall) for name, x in said.single.items()]
    for one in said.rivals:
        if one.searches:
            title = f"faster than stochastic line search ({one.name}), in processor time"
            claimed.append(below(title, one.speed.seconds))
        else:
            title = f"lower than hypergradient descent ({one.name}: {one.kind})"
            claimed.append(below(title, one.counts.overall))
    if said.slopes:
        claimed.append(_larger(said))
    if said.diversity is not None:
        title = "diverse, dynamic schedules: how much rates differ between tasks, over within"
        claimed.append(Claim(title, "> 1", f"{said.diversity.ratio:.2f}", "", UNJUDGED))
    if said.tuned is not None:
        title = "fine-tuning, LoRA and full: as good as tuned cosine"
        claimed.append(below(title, said.tuned.overall, MARGIN))
    return claimed


def _as_good(counts: Count) -> Sequence[Claim]:
    goal, title = counts.goal, "as good as the usual schedules in more than 90% of comparisons, by "
    held = goal.low > GOAL or (False if goal.high < GOAL else None)
    low, high = max(goal.low, 0.0), min(goal.high, 1.0)
    span = f"[{low:.0%}, {high:.0%}] over {goal.n} {goal.over}"
    shares = f"{counts.as_good:.0%}", f"{counts.paper_as_good:.0%}"
    last = f"{title}the paper's count, which forgives 0.1"
    return [
        Claim(title + "intervals", "> 90%", shares[0], span, outcome(held), p=goal.p),
        Claim(last, "> 90%", shares[1], "", UNJUDGED),
    ]


def _larger(said: Found) -> Claim:
    least = max(said.slopes, key=lambda name: said.slopes[name].high)
    one = said.slopes[least]
    title = "especially for large models: the change of ln(loss / theirs) a tenfold of parameters, "
    title += f"against each schedule (least sure: {least})"
    value, span = f"{one.estimate:+.4f}", f"[{one.low:+.4f}, {one.high:+.4f}]"
    span += f" over {one.n} {one.over}"
    return Claim(title, "< 0", value, span, outcome(said.larger), p=one.p)
