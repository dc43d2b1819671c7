"""Runs the study of learned factorisation rates: tunes, judges, and writes the page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from evidence.how import How
from evidence.nmf import estimator, plan, real
from evidence.nmf import page as pages
from evidence.nmf.methods import METHODS, Learned, Method, Stack, run_stack, tried
from evidence.nmf.numbers import chosen_in
from evidence.nmf.plan import Chosen, Settings
from evidence.results import Result, Results
from ratewise.compare import training
from ratewise.errors import MissingData
from ratewise.learning.noisy_descent import Descent, Problems, log_share
from ratewise.nmf.learned import NMFPolicy, load

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Tune, judge and write the page and its figures."""
    settings = settings or Settings()
    results = Results(how.out / "nmf.parquet")
    if not how.page_only:
        _complete(results, settings, how)
    pages.write(results, settings, how.page)


def _complete(results: Results, settings: Settings, how: How) -> None:
    """Make what is missing: tuning first, for what is judged depends on it."""
    digests, data = [load(name).digest for name in settings.policies], how.data
    complete = partial(results.complete, jobs=how.jobs, progress=how.progress)
    complete(plan.tuning_units(settings), partial(tuned, settings), label="methods tuned")
    chosen = chosen_in(results, settings)[0]
    groups = _there(plan.judging_units(settings, chosen, digests), data)
    complete(groups, partial(judged, settings, chosen, data), label="groups judged")
    sets = _there(plan.estimator_units(settings, digests), data)
    complete(sets, partial(measured, settings, data), label="real sets")


def _there(units: dict[str, str], data: str | None) -> dict[str, str]:
    """Return the units whose data are there."""
    found = {}
    for digest, name in units.items():
        try:
            if name in real.SETS:
                real.rows(name, data)
        except MissingData:
            continue
        found[digest] = name
    return found


def tuned(settings: Settings, name: str) -> list[Result]:
    """Return the setting of a method with the lowest mean ln loss, and that mean."""
    started, seed = time.perf_counter(), list(METHODS).index(name)
    problems = plan.stacks(plan.TUNING, settings.tuning)
    best, score = tune(METHODS[name], problems, settings.tried, seed)
    seconds, versions = time.perf_counter() - started, json.dumps(training.versions())
    return [Result("tuning", name, json.dumps(best), seed, "tuned", 0, [score], seconds, versions)]


def tune(
    method: Method, found: Sequence[Stack], count: int, seed: int
) -> tuple[dict[str, float], float]:
    """Return the best of so many random settings of a method, and its mean ln loss."""
    settings = method.settings(count, seed)
    scores = torch.zeros(count)
    for stack in found:
        scores += log_share(tried(method, stack, settings)).sum(0)
    best = int(scores.argmin())
    return settings[best], float(scores[best] / sum(len(stack.problems) for stack in found))


def judged(settings: Settings, chosen: Chosen, data: str | None, group: str) -> list[Result]:
    """Run every method on every problem of a group, with the same noise."""
    policies = [load(name) for name in settings.policies]
    found: list[Result] = []
    for number, stack in enumerate(plan.groups(settings, data)[group]()):
        for name, setting in chosen.items():
            started = time.perf_counter()
            final = tried(METHODS[name], stack, [setting])[:, 0]
            found += _results(group, name, number, stack, [final], started)
        for policy in policies:
            started = time.perf_counter()
            marks = _of(policy, stack)
            found += _results(group, f"learned {policy.name}", number, stack, marks, started)
        started = time.perf_counter()
        floor = misfit(stack.problems, settings.clean)
        found += _results(group, plan.MISFIT, number, stack, [floor], started)
    return found


def _of(policy: NMFPolicy, stack: Stack) -> list[Tensor]:
    """Return a policy's final losses, and the share of its decisions that fell back."""
    rule = Learned(policy, stack.steps, len(stack.problems))
    final = run_stack(stack, rule)
    return [final, rule.outside / (policy.windows - 1)]


def _results(
    group: str, method: str, number: int, stack: Stack, marks: list[Tensor], started: float
) -> list[Result]:
    """Return a row a problem, with which the time is shared.

    Its losses are the final one over the first, and of a policy the share of its decisions that
    fell back.
    """
    seconds = (time.perf_counter() - started) / len(stack.problems)
    versions, setting = json.dumps(training.versions()), f"{number}: {stack.name}"
    return [
        Result(group, method, setting, stack.seed, "judged", stack.steps, values, seconds, versions)
        for values in torch.stack(marks, 1).tolist()
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


def measured(settings: Settings, data: str | None, name: str) -> list[Result]:
    """Return |X - W H|^2 of StochasticNMF's schedules over that of cosine, on a real set."""
    policies = [load(policy) for policy in settings.policies]
    versions, rows = json.dumps(training.versions()), real.matrix(name, data)
    return [
        Result(f"{name}, {mode}", schedule, "", seed, "estimator", 0, [ratio], 0.0, versions)
        for mode, seed, schedule, ratio in estimator.measure(rows, policies, settings.starts)
    ]
