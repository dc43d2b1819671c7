"""Makes the runs of the study: every setting of a method on every problem, from several seeds."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import torch
from torch import Tensor

from evidence.nmf import plan
from evidence.nmf.methods import METHODS, Learned, Stack, reseeded, run_stack, tried
from evidence.nmf.plan import Settings, Unit
from evidence.results import Result
from ratewise.compare import training
from ratewise.learning.noisy_descent import Descent, Problems
from ratewise.nmf.learned import NMFPolicy, load


def made(settings: Settings, data: str | None, unit: Unit) -> list[Result]:
    """Run a method on a group; a row is a problem with one of its seeds.

    Its losses are final ones over first ones: of each setting that was tried; of a policy one, and
    the share of its decisions that fell back; of the misfit one.
    """
    seeds = 1 if unit.group == plan.TUNED_ON or unit.method == plan.MISFIT else settings.seeds
    learned = {f"learned {policy.name}": policy for policy in map(load, settings.policies)}
    found: list[Result] = []
    for number, stack in enumerate(plan.groups(settings, data)[unit.group]()):
        started, own = time.perf_counter(), reseeded(stack, seeds)
        if unit.method == plan.MISFIT:
            marks = misfit(own.problems, settings.clean)[:, None]
        elif unit.method in learned:
            marks = _of(learned[unit.method], own)
        else:
            method, seed = METHODS[unit.method], list(METHODS).index(unit.method)
            marks = tried(method, own, method.settings(settings.tried, seed))
        seconds = (time.perf_counter() - started) / len(marks)
        found += _results(unit, f"{number}: {stack.name}", stack.steps, marks, seeds, seconds)
    return found


def _of(policy: NMFPolicy, stack: Stack) -> Tensor:
    """Return a policy's final losses, and the share of its decisions that fell back."""
    rule = Learned(policy, stack.steps, len(stack.problems))
    final = run_stack(stack, rule)
    return torch.stack([final, rule.outside / (policy.windows - 1)], 1)


def _results(
    unit: Unit, stack: str, steps: int, marks: Tensor, seeds: int, seconds: float
) -> list[Result]:
    versions = json.dumps(training.versions())
    role = "tuning" if unit.group == plan.TUNED_ON else "judging"
    return [
        Result(
            unit.group,
            unit.method,
            f"{stack}, problem {row // seeds}",
            row % seeds,
            role,
            steps,
            values,
            seconds,
            versions,
        )
        for row, values in enumerate(marks.tolist())
    ]


def misfit(problems: Problems, steps: int) -> Tensor:
    """Return the loss over the first one that a long descent without noise ends with, [problems].

    About what no rate can remove: noise of the data, and more components than are fitted.
    """
    clean = replace(problems, level=torch.zeros_like(problems.level), share=1.0)
    descent = Descent(clean, seed=0)
    first, one = descent.loss(), torch.ones(len(problems))
    for _ in range(steps):
        descent.step(one)
    return descent.loss() / first
