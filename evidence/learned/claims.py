"""What is wanted of methods without a rate, and whether it came out so."""

from __future__ import annotations

import math
from collections.abc import Iterator

from evidence.claims import UNJUDGED, Claim, below, outcome
from evidence.learned import numbers as of
from evidence.learned.numbers import Judged, Numbers
from evidence.learned.rules import KINDS, LINEAR, ONLINE, OTHER, OURS, POLICY, RANDOM
from evidence.learned.runs import MEASURES

#: kind -> by measure: the most that the mean over tuned linear, and nine tenths, may be.
GOALS = {
    KINDS[0]: ((1.0, 1.05), (1.0, 1.05)),
    KINDS[1]: ((1.05, None), (1.03, 1.15)),
    KINDS[2]: ((1.03, 1.1), (1.03, 1.1)),
}
#: The most that held-out loss may be over Prodigy's with a cosine, and steps over linear's own.
PRODIGY, STEPS = 0.92, 0.95


def claims(numbers: Numbers) -> list[Claim]:
    """Return the goals and what was measured of each; none before anything was judged."""
    if not numbers.cells:
        return []
    ours = [claim for name in (OURS, POLICY) for claim in _of(name, numbers)]
    return [*ours, *_policy(numbers), *_controls(numbers)]


def _of(ours: str, numbers: Numbers) -> Iterator[Claim]:
    for kind in numbers.kinds():
        parts = [(kind, numbers.keep(kind))]
        if kind == KINDS[0]:  # wanted of every length
            parts += [
                (f"{kind}, {n:,} steps", numbers.keep(kind, n)) for n in numbers.lengths(kind)
            ]
        for title, cells in parts:
            for m, measure in enumerate(MEASURES):
                most, tenth = GOALS[kind][m]
                found = of.against(cells, ours, LINEAR, m, most)
                yield below(f"{title}, {measure} loss over tuned linear's", found, most, of=ours)
                if tenth is not None and title == kind:
                    yield _tenth(title, measure, of.tenth(cells, ours, LINEAR, m), tenth, ours)
    every = numbers.keep()
    lost = sum(cell.failed[ours] for cell in numbers.cells if cell.survives)
    yield Claim(
        "runs that failed where a rate survives", "0", f"{lost}", "", outcome(not lost), ours
    )
    for n in numbers.lengths():
        cells = [cell for cell in numbers.keep(steps=n) if cell.has("prodigy")]
        if cells:
            found = of.against(cells, ours, "prodigy", 1, PRODIGY)
            title = f"{n:,} steps, held-out loss over Prodigy's with a cosine"
            yield below(title, found, PRODIGY, of=ours)
    title = "steps to tuned linear's last training loss over its own"
    yield below(title, of.steps(every, ours, STEPS), STEPS, of=ours)


def _tenth(title: str, measure: str, found: float, most: float, ours: str) -> Claim:
    """Return what nine tenths of the cells stay below; there is no interval, so it's not judged."""
    shown = "-" if math.isnan(found) else f"{found:.3f}"
    name = f"{title}, {measure} loss: nine tenths of the cells"
    return Claim(name, f"<= {most:g}", shown, "", UNJUDGED, ours)


def _policy(numbers: Numbers) -> Iterator[Claim]:
    """Yield whether the policy adds anything to the rule that it corrects."""
    for kind in numbers.kinds():
        found = of.against(numbers.keep(kind), POLICY, OURS, 1)
        title = f"{kind}: the policy over the rule alone, held-out loss"
        yield below(title, found, of=POLICY)


def _controls(numbers: Numbers) -> list[Claim]:
    """Return what must show if the comparisons can: a wrong ratio is worse, and chance no help."""
    cells = numbers.keep(KINDS[0])
    found = []
    if any(cell.has(OTHER) for cell in cells):
        mean = of.against(cells, OURS, OTHER, 1)
        found.append(below("control: fresh data, over another length's ratio", mean, of=OURS))
    both = [cell for cell in numbers.keep() if cell.has(ONLINE, RANDOM)]
    if both:
        found.append(_chance(both))
    return found


def _chance(cells: list[Judged]) -> Claim:
    mean = of.against(cells, ONLINE, RANDOM, 1)
    title = "control: the online correction, over one with a random sign, held-out loss"
    return below(title, mean, of=OURS)
