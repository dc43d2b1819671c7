"""Which of the paper's claims on noise hold here, in plain sentences made from the numbers."""

from __future__ import annotations

import numpy as np

from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import verdict
from ratewise.studies.robustness import OURS, sweep_name
from ratewise.studies.robustness_numbers import (
    QUIET,
    WHERE,
    Condition,
    Numbers,
    as_in_the_paper,
    interval,
)

#: The paper's baselines.
RIVALS = ("cosine", "restarts", "exponential")


def sentences(numbers: Numbers) -> list[str]:
    """Return what the page says first."""
    return [
        *_lower_loss(numbers),
        *_why(numbers),
        _recovery(numbers),
        *_places(numbers),
        *_threshold(numbers),
    ]


def _lower_loss(numbers: Numbers) -> list[str]:
    """Claim: under noise on the loss GreedyLR ends lower than cosine, restarts, exponential."""
    said = []
    rivals = [name for name in RIVALS if name in numbers.settings.schedules]
    for ours in (name for name in OURS if name in numbers.settings.schedules):
        medians = {
            name: float(
                np.quantile(numbers.pooled("last", name, as_in_the_paper), 0.5, method="nearest")
            )
            for name in (ours, *rivals)
        }
        below = [name for name in rivals if medians[ours] < medians[name]]
        found = {name: interval(numbers.log_ratios(ours, name, as_in_the_paper)) for name in rivals}
        verdicts = {name: verdict(x) for name, x in found.items()}
        paired = ", ".join(
            f"{name} {ratio(found[name])} ({_said(verdicts[name])})" for name in rivals
        )
        holds = [name for name in rivals if verdicts[name] == "better"]
        lost = [name for name in rivals if verdicts[name] == "worse"]
        verb = (
            "holds here"
            if len(holds) == len(rivals)
            else "does NOT hold here"
            if lost or not holds
            else f"holds against {', '.join(holds)} only"
        )
        control = ""
        if "constant" in numbers.settings.schedules:
            x = interval(numbers.log_ratios(ours, "constant", as_in_the_paper))
            control = (
                f" The control: against `constant`, which reacts to nothing, {ratio(x)} "
                f"({_said(verdict(x))})."
            )
        said.append(
            f"Claim: under noise on the loss it ends lower. For `{ours}` this **{verb}**: paired "
            f"on the clean loss, {paired}. Its pooled median ({medians[ours]:.3g}) lies below that "
            f"of {', '.join(below) if below else 'none of them'}.{control}"
        )
    return said


def _why(numbers: Numbers) -> list[str]:
    """Whether what was won at equal rates is left when each schedule has its own best rate."""
    if "cosine" not in numbers.settings.schedules or numbers.settings.seeds == 1:
        return []
    parts, won, kept = [], [], []
    for ours in (name for name in OURS if name in numbers.settings.schedules):
        same = interval(numbers.log_ratios(ours, "cosine", as_in_the_paper))
        tuned = interval(numbers.tuned_log_ratios(ours, "cosine", as_in_the_paper))
        if verdict(same) == "better":
            won.append(ours)
            kept += [ours] if verdict(tuned) == "better" else []
        parts.append(
            f"`{ours}` {same.ratio()[0]:.3f} becomes {ratio(tuned)} ({_said(verdict(tuned))})"
        )
    if not won:
        return []
    reason = (
        f"not of the rate alone, for {', '.join(f'`{name}`' for name in kept)}"
        if kept
        else "of the rate itself: from a rate that is too low, one that does not decay, or rises, "
        "goes further"
    )
    return [
        f"Why: what is won against cosine at equal rates is a matter {reason}. With each schedule "
        f"at its own best rate the ratio changes: {', '.join(parts)}."
    ]


def _said(word: str) -> str:
    return {"worse": "higher", "better": "lower"}.get(word, word)


def _recovery(numbers: Numbers) -> str:
    """Claim: GreedyLR recovers further (134x in the median) and sooner (12 steps, not 45)."""
    names = [n for n in ("greedy-paper", "greedy", *RIVALS) if n in numbers.settings.schedules]
    recovery = {n: float(np.median(numbers.pooled("recovery", n, as_in_the_paper))) for n in names}
    steps = {
        n: float(np.quantile(numbers.pooled("steps", n, as_in_the_paper), 0.5, method="nearest"))
        for n in names
    }
    rivals = [n for n in names if n in RIVALS]
    further = all(recovery[names[0]] > recovery[n] for n in rivals)
    sooner = all(steps[names[0]] < steps[n] for n in rivals)
    listed = "; ".join(f"{n} {recovery[n]:.3g}x, {steps[n]:.3g} steps" for n in names)
    return (
        f"Claim: it recovers further and sooner. Further **{_holds(further)}**, sooner "
        f"**{_holds(sooner)}** in the pooled medians ({listed}). Noise that only the rule sees "
        "raises no training loss, so that the greatest loss of most runs is an early one: the "
        "figure says how far a run came down, not how it recovered."
    )


def _holds(true: bool) -> str:
    return "holds" if true else "does NOT hold"


def _places(numbers: Numbers) -> list[str]:
    """What the original could not show: noise that every schedule feels."""
    said = []
    for ours in (name for name in OURS if name in numbers.settings.schedules):
        if "cosine" not in numbers.settings.schedules:
            continue
        parts = []
        for where in ("on the gradient", "on the data"):
            keep = WHERE[where]
            same = interval(numbers.log_ratios(ours, "cosine", keep))
            tuned = interval(numbers.tuned_log_ratios(ours, "cosine", keep))
            if same.n > 1:
                best = f", {ratio(tuned)} at its own best rate" if tuned.n > 1 else ""
                parts.append(f"{where} {ratio(same)}{best}")
        said.append(
            f"Where every schedule feels the noise, `{ours}` to cosine: {'; '.join(parts)}."
        )
    return said


def _threshold(numbers: Numbers) -> list[str]:
    """Claim: any F >= 0.5 is stable, 0.25 diverges."""
    factors = numbers.settings.factors
    if not {0.25, 0.5} <= set(factors):
        return []
    said = []
    for bounds in ("0.1 to 10", "1e-4 to 1e4"):
        risen = {
            factor: float(np.mean(numbers.pooled("score", sweep_name(factor, bounds), _swept) > 0))
            for factor in factors
        }
        middle = {
            factor: interval(
                numbers.log_ratios(
                    sweep_name(factor, bounds), sweep_name(factors[-1], bounds), _swept
                )
            )
            for factor in factors
        }
        listed = ", ".join(f"F={f:g}: {risen[f]:.1%}, {ratio(middle[f])}" for f in factors)
        jump = risen[0.25] > 2 * max(risen[0.5], 0.01) and middle[0.25].low > 0
        verb = "shows a" if jump else "shows NO"
        said.append(
            f"Claim: F below 0.5 diverges, above it does not. In bounds {bounds} the sweep {verb} "
            f"step between 0.25 and 0.5 (runs that ended above their start, and the clean loss "
            f"against F={factors[-1]:g}: {listed})."
        )
    return said


def _swept(condition: Condition) -> bool:
    return condition in (QUIET, ("gaussian", "loss"))
