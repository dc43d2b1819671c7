"""Which law of the ratio is best, and what is claimed of the package's and of corrections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, below, outcome
from evidence.update_ratio import numbers as of
from evidence.update_ratio.numbers import (
    BATCH_POWERS,
    FLAT,
    OURS,
    SHARES,
    WITH,
    WITHOUT,
    Law,
    Numbers,
)
from ratewise.compare.statistics import MARGIN
from ratewise.rules.ratio_law import PRETRAINED

#: How much worse an online correction may make the held-out loss of any task.
HARM = 1.01


class Fit(NamedTuple):
    """What the fit of the law shows; regrets are sums over both losses, as far as they are paid."""

    regret: float  #: of the package's law
    each: list[float]  #: by measure
    best: Law
    least: float
    flat: list[Law]  #: those within `FLAT` of the best
    without: Law  #: the best that does not know passes
    without_least: float
    left_out: tuple[float, list[tuple[Law, int]]] | None  #: regret, and laws chosen so often
    batch: tuple[float, float]  #: the best power of the batch, and the least regret with it
    shares: dict[str, list[float]]  #: fine-tuning: measure -> mean, at each of `SHARES` of the law
    compromise: dict[str, list[float]]  #: group -> over what came before: training, held-out


def fit(numbers: Numbers) -> Fit:
    """Return what the fit shows, on runs from scratch; and what fine-tuning wants of it."""
    scratch = numbers.fitted
    regret = of.paid(numbers.regret, numbers.passes)
    part = regret[:, scratch], numbers.steps[scratch], numbers.passes[scratch]
    found, plain, ours = (
        of.scores(laws, *part, numbers.ratios) for laws in (WITH, WITHOUT, [OURS])
    )
    batches = numbers.batches[scratch] / 32
    powers = {
        power: float(of.criterion(of.scores(WITH, *part, numbers.ratios, batches**power)).min())
        for power in BATCH_POWERS
    }
    power = min(powers, key=lambda one: powers[one])
    values, least_plain = of.criterion(found), of.criterion(plain)
    best = int(values.argmin())
    tasks = [u.task for u, keep in zip(numbers.units, scratch, strict=True) if keep]
    apart = None
    if len(set(tasks)) > 1:
        elsewhere, chosen = of.left_out(found, tasks)
        apart = elsewhere, [(WITH[k], chosen.count(k)) for k in dict.fromkeys(chosen)]
    return Fit(
        regret=float(of.criterion(ours)[0]),
        each=[float(x) for x in ours[0].mean(-1)],
        best=WITH[best],
        least=float(values[best]),
        flat=[WITH[k] for k in np.flatnonzero(values <= values[best] + FLAT)],
        without=WITHOUT[int(least_plain.argmin())],
        without_least=float(least_plain.min()),
        left_out=apart,
        batch=(power, powers[power]),
        shares=_shares(numbers),
        compromise=_compromise(numbers),
    )


def _shares(numbers: Numbers) -> dict[str, list[float]]:
    keep = numbers.tuning
    if not keep.any():
        return {}
    scratch = numbers.default(True) / PRETRAINED
    at = [numbers.at(share * scratch, numbers.ours)[:, keep] for share in SHARES]
    means = np.exp(np.stack(at).mean(-1))
    return {name: means[:, m].tolist() for m, name in enumerate(of.MEASURES)}


def _compromise(numbers: Numbers) -> dict[str, list[float]]:
    """Return the default without passes over the default that came before."""
    ratio = numbers.at(numbers.default(False), numbers.ours) - numbers.named["before"]
    groups = numbers.groups().items()
    return {name: np.exp(ratio[:, keep].mean(-1)).tolist() for name, keep in groups}


def claims(numbers: Numbers, found: Fit) -> list[Claim]:
    """Return what is claimed of the package's law, and of online corrections."""
    said = [
        Claim(
            f"the law is one of the best: within {FLAT:g} of the least regret",
            f"<= {found.least + FLAT:.3f}",
            f"{found.regret:.3f}",
            "",
            outcome(found.regret <= found.least + FLAT),
        ),
        Claim(
            "passes matter: the best law that does not know them regrets more",
            f"> {found.least + FLAT:.3f}",
            f"{found.without_least:.3f}",
            "",
            outcome(found.without_least > found.least + FLAT),
        ),
        Claim(
            "the batch does not: with a power of its rows the best law regrets as much",
            f">= {found.least - FLAT:.3f}",
            f"{found.batch[1]:.3f}",
            "",
            outcome(found.batch[1] >= found.least - FLAT),
        ),
    ]
    ours = numbers.at(numbers.default(True), numbers.ours)
    for name, keep in numbers.groups().items():
        for m, measure in enumerate(of.MEASURES):
            title = f"{name}: the law ends no higher than tuned linear, {measure} loss"
            said.append(below(title, numbers.interval(ours[m], keep, MARGIN), MARGIN))
    for name, (training, held_out) in found.compromise.items():
        if name not in (of.TUNING, of.DEVELOP):
            worst = max(training, held_out)
            title = f"{name}: where passes are not known it is no worse than what came before"
            held = outcome(worst <= MARGIN)
            said.append(Claim(title, f"<= {MARGIN:g}", f"{worst:.3f}", "", held))
    return said + _online(numbers)


def _online(numbers: Numbers) -> list[Claim]:
    """Return the claims on online corrections, where they were run."""
    found = against_alone(numbers, "online, 1")
    fresh = numbers.groups().get("fresh data", np.zeros(len(numbers.units), bool))
    fresh = fresh & np.isfinite(found[1])
    keep = fresh
    if not keep.any():
        return []
    worst = float(np.exp(found[1, keep].max()))
    low = against_alone(numbers, "online, 0.25")[1, keep]
    random = against_alone(numbers, "random sign")[1, keep]
    return [
        Claim(
            "fresh data, AdamW: the online correction ends no task higher, held-out loss (it would "
            "be on by default)",
            f"<= {HARM:g}",
            f"{worst:.3f}",
            "",
            outcome(worst <= HARM),
        ),
        Claim(
            "begun at a quarter of that ratio, it lowers it in every task",
            "< 1",
            f"{np.exp(low.max()):.3f}",
            "",
            outcome(bool(low.max() < 0)),
        ),
        below(
            "it lowers it, in the mean",
            numbers.interval(found[1], keep),
        ),
        Claim(
            "corrections with a random sign (the control) do less",
            f"> {np.exp(found[1, keep].mean()):.3f}",
            f"{np.exp(random.mean()):.3f}",
            "",
            outcome(bool(random.mean() > found[1, keep].mean())),
        ),
    ]


def against_alone(numbers: Numbers, name: str) -> np.ndarray:
    """Return a corrected method's loss over the same ratio's alone, ln, [measure, unit]."""
    share = name.rpartition(", ")[2] if ", " in name else "1"
    nothing = np.full((2, len(numbers.units)), np.nan)
    return numbers.named.get(name, nothing) - numbers.named[f"alone, {share}"]
