"""What is claimed of the intervals: that they err as seldom as they say."""

from __future__ import annotations

from collections.abc import Sequence

from evidence.claims import Claim, outcome
from evidence.coverage.numbers import Found
from evidence.coverage.plan import ALLOWED, BOOTSTRAP, HARSH, USUAL

WANTED = f"<= {ALLOWED:.0%}"


def claims(found: Sequence[Found]) -> list[Claim]:
    """Return a claim a design, a world in which more is asked of them, and a control."""
    own = [one for one in found if one.unit.printed]
    said = []
    for design in dict.fromkeys(one.unit.design for one in own):
        usual = [one for one in own if one.unit.design == design and one.unit.world in USUAL]
        if usual:
            worst = max(usual, key=lambda one: one.missed)
            said.append(_claim(design.name, worst, worst.unit.world.name))
    for world in HARSH:
        harsh = [one for one in own if one.unit.world == world]
        if harsh:
            worst = max(harsh, key=lambda one: one.missed)
            said.append(_claim(f"every interval, {world.name}", worst, worst.unit.design.name))
    for one in found:
        if one.unit.way == BOOTSTRAP:
            title = f"control: the percentile bootstrap errs more, {one.unit.design.name}"
            value = f"{one.missed:.1%}"
            said.append(Claim(title, f"> {ALLOWED:.0%}", value, "", outcome(one.errs)))
    return said


def _claim(title: str, worst: Found, where: str) -> Claim:
    return Claim(title, WANTED, f"{worst.missed:.1%} ({where})", "", outcome(not worst.errs))
