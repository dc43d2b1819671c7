"""Figures of the study of learned rates: the rates against the bound, the losses they make."""

from __future__ import annotations

import numpy as np
import torch

from evidence.nmf import problems
from evidence.nmf.methods import METHODS, Learned, Rule, Stack, reseeded
from evidence.nmf.numbers import Outcome
from evidence.nmf.plan import Settings
from ratewise.learning.noisy_descent import Descent
from ratewise.nmf.learned import NMFPolicy
from ratewise.plotting import PALETTE, Line, Panel

#: Methods that are drawn besides the policy.
SHOWN = ("cosine", "step", "GreedyLR", "warmup-hold-decay")


def panels(
    outcome: Outcome, settings: Settings, policy: NMFPolicy
) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of both figures, on the first two stacks held out of each kind of noise.

    Args:
        outcome: what was tuned.
        settings: the study's size.
        policy: the one that is drawn.
    """
    found = list(enumerate(problems.stacks(problems.JUDGING, settings.judging)))
    kinds = [
        [(number, stack) for number, stack in found if (stack.problems.share < 1) == sampled][:2]
        for sampled in (False, True)
    ]
    rates, histories = [], []
    for number, stack in (one for kind in kinds for one in kind):
        rate_lines: list[Line] = []
        loss_lines: list[Line] = []
        own = _settings(outcome, settings, number)
        for colour, (name, c, losses) in enumerate(_followed(own, settings, policy, stack)):
            strong = colour == 0
            steps = list(range(1, stack.steps + 1))
            for lines, values in ((rate_lines, c), (loss_lines, losses)):
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1).tolist()
                low, high = (low, high) if strong else ([], [])
                lines.append(Line(name, PALETTE[colour], steps, middle, low, high, strong))
        shape = stack.problems.v.shape
        noise = "samples" if stack.problems.share < 1 else "isotropic noise"
        title = f"{shape[1]} x {shape[2]}, k = {stack.problems.w.shape[2]}, {noise}"
        limit = Line("the bound, c = 2", "#999999", [1, stack.steps], [2.0, 2.0])
        rates.append(Panel(title, "step", "c = rate x L", [*rate_lines, limit], log_y=True))
        histories.append(Panel(title, "step", "loss / first loss", loss_lines, log_y=True))
    return rates, histories


def _settings(
    outcome: Outcome, settings: Settings, number: int
) -> dict[str, dict[str, torch.Tensor]]:
    """Return each method's settings, tuned per problem of a stack, one number a run."""
    count, found = settings.judging[1], {}
    for name in SHOWN:
        every = METHODS[name].settings(settings.tried, list(METHODS).index(name))
        picked = outcome.groups[0].picked[name][number * count : (number + 1) * count]
        chosen = [every[index] for index in picked for _ in range(settings.seeds)]
        found[name] = {key: torch.tensor([one[key] for one in chosen]) for key in chosen[0]}
    return found


def _followed(
    own: dict[str, dict[str, torch.Tensor]], settings: Settings, policy: NMFPolicy, stack: Stack
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, rates [steps, runs] and losses of the policy and of tuned methods.

    The runs are those of the seeds that judge.
    """
    seeded = reseeded(stack, settings.seeds)
    runs = len(seeded.problems)
    judging = np.arange(runs) % settings.seeds >= settings.tuning_seeds
    rules: dict[str, Rule] = {"learned": Learned(policy, stack.steps, runs)}
    for name, setting in own.items():
        rules[f"tuned {name}"] = METHODS[name].build(setting, stack.steps)
    found = []
    for name, rule in rules.items():
        descent = Descent(seeded.problems, stack.seed)
        first, rates, losses = descent.loss(), [], []
        for step in range(stack.steps):
            c = rule.rate(step).expand(runs)
            rates.append(c.clamp(1e-3, 1.9).numpy()[judging])
            rule.heard(descent.step(c))
            losses.append((descent.loss() / first).numpy()[judging])
        found.append((name, np.array(rates), np.array(losses)))
    return found
