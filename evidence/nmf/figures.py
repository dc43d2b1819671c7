"""Figures of the study of learned rates: the rates against the bound, the losses they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evidence.nmf.methods import METHODS, Learned, Rule, Stack
from evidence.nmf.numbers import Outcome
from evidence.nmf.plan import JUDGING, stacks
from ratewise.learning.noisy_descent import Descent
from ratewise.nmf.learned import NMFPolicy
from ratewise.plotting import PALETTE, Line, Panel

#: Methods that are drawn besides the policy.
SHOWN = ("cosine", "step", "GreedyLR", "warmup-hold-decay")


def panels(outcome: Outcome, policies: Sequence[NMFPolicy]) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of both figures, on the first two stacks of each kind of noise.

    Args:
        outcome: what was tuned.
        policies: the first is drawn.
    """
    found = stacks(JUDGING, (8, 16))
    kinds = [
        [s for s in found if (s.problems.share < 1) == sampled][:2] for sampled in (False, True)
    ]
    chosen = [stack for kind in kinds for stack in kind]
    rates, histories = [], []
    for stack in chosen:
        rate_lines: list[Line] = []
        loss_lines: list[Line] = []
        for number, (name, c, losses) in enumerate(_followed(outcome, policies, stack)):
            colour = PALETTE[number]
            strong = number == 0
            steps = list(range(1, stack.steps + 1))
            for lines, values in ((rate_lines, c), (loss_lines, losses)):
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1).tolist()
                low, high = (low, high) if strong else ([], [])
                lines.append(Line(name, colour, steps, middle, low, high, strong))
        shape = stack.problems.v.shape
        noise = "samples" if stack.problems.share < 1 else "isotropic noise"
        title = f"{shape[1]} x {shape[2]}, k = {stack.problems.w.shape[2]}, {noise}"
        limit = Line("the bound, c = 2", "#999999", [1, stack.steps], [2.0, 2.0])
        rates.append(Panel(title, "step", "c = rate x L", [*rate_lines, limit], log_y=True))
        histories.append(Panel(title, "step", "loss / first loss", loss_lines, log_y=True))
    return rates, histories


def _followed(
    outcome: Outcome, policies: Sequence[NMFPolicy], stack: Stack
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, rates [steps, problems] and losses of the policy and of tuned methods."""
    runs = len(stack.problems)
    rules: dict[str, Rule] = {}
    if policies:
        rules["learned"] = Learned(policies[0], stack.steps, runs)
    for name in SHOWN:
        setting = {k: torch.full((runs,), v) for k, v in outcome.chosen[name].items()}
        rules[f"tuned {name}"] = METHODS[name].build(setting, stack.steps)
    found = []
    for name, rule in rules.items():
        descent = Descent(stack.problems, stack.seed)
        first, rates, losses = descent.loss(), [], []
        for step in range(stack.steps):
            c = rule.rate(step).expand(runs)
            rates.append(c.clamp(1e-3, 1.9).numpy())
            rule.heard(descent.step(c))
            losses.append((descent.loss() / first).numpy())
        found.append((name, np.array(rates), np.array(losses)))
    return found
