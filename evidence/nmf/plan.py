"""Learned schedules of a factorisation's rate against tuned ones, on problems never seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evidence.nmf import estimator as nmf_estimator
from evidence.nmf import real as nmf_real
from evidence.nmf.methods import METHODS, TRIED, Learned, Method, Stack, run, tried
from ratewise.compare.training import one_thread
from ratewise.nmf import random_problems
from ratewise.nmf.learned import NMFPolicy, load, names
from ratewise.nmf.noisy import Descent, Problems, log_share
from ratewise.nmf.random_problems import Shape
from ratewise.progress import tracked
from ratewise.runs import files

#: Streams of random numbers that tune, and that judge; policies learn from [seed, round].
TUNING, JUDGING, TRANSFER, LONG = ((20_26, part) for part in (1, 2, 3, 4))


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tuning: tuple[int, int] = (32, 16)  #: stacks, problems of each
    judging: tuple[int, int] = (40, 16)
    transfer: tuple[int, int] = (4, 16)
    longest: int = 1000  #: steps of the runs that are longer than any in training
    tried: int = TRIED
    clean: int = 1000  #: steps without noise, whose end is the misfit
    starts: int = 5  #: of StochasticNMF, on each real set
    policies: tuple[str, ...] = field(default_factory=lambda: tuple(names()))


@dataclass(frozen=True)
class Result:
    """Final losses over first ones of all methods on one group of stacks."""

    group: str
    stacks: list[str]
    losses: dict[str, list[list[float]]]  #: method -> one list a stack
    outside: dict[str, float]  #: policy -> share of its decisions that fell back
    misfit: list[list[float]]  #: what `misfit` finds, one list a stack

    def log_ratios(self, ours: str, theirs: str) -> list[np.ndarray]:
        """Return ln(ours / theirs), one array a stack."""
        pairs = zip(self.losses[ours], self.losses[theirs], strict=True)
        return [(_log(a) - _log(b)).numpy() for a, b in pairs]

    def free(self, theirs: str) -> list[np.ndarray]:
        """Return whether most of a method's final loss is no misfit, one array a stack."""
        pairs = zip(self.misfit, self.losses[theirs], strict=True)
        return [np.array(floor) < 0.5 * np.array(loss) for floor, loss in pairs]


def _log(losses: Sequence[float]) -> Tensor:
    return log_share(torch.tensor(losses, dtype=torch.float64))


def stacks(stream: tuple[int, ...], shape: tuple[int, int]) -> list[Stack]:
    """Return random stacks: shapes as a policy was trained on, from a stream of their own."""
    rng = np.random.default_rng(stream)
    found = []
    for _ in range(shape[0]):
        one = random_problems.shape(rng)
        found.append(_stack(str(one), one, shape[1], rng))
    return found


def _stack(name: str, shape: Shape, count: int, rng: np.random.Generator) -> Stack:
    problems = random_problems.draw(shape, count, rng)
    return Stack(name, problems, shape.steps, int(rng.integers(2**31)))


def large(shape: tuple[int, int]) -> list[Stack]:
    """Return stacks of 200 x 120, larger than any that a policy was trained on."""
    rng = np.random.default_rng(TRANSFER)
    return [
        _stack(
            f"200 x 120, {'samples' if number % 2 else 'isotropic'}",
            Shape(200, 120, 10, 100, 0.1 if number % 2 else 1.0),
            shape[1],
            rng,
        )
        for number in range(shape[0])
    ]


def long(shape: tuple[int, int], steps: int) -> list[Stack]:
    """Return stacks whose runs are longer than any that a policy was trained on."""
    rng = np.random.default_rng(LONG)
    shapes = [replace(random_problems.shape(rng), steps=steps) for _ in range(shape[0])]
    return [_stack(str(one), one, shape[1], rng) for one in shapes]


def tune(
    method: Method, found: Sequence[Stack], count: int, seed: int
) -> tuple[dict[str, float], float]:
    """Return the setting with the lowest mean ln loss, and that mean.

    Args:
        method: what is tuned.
        found: the problems to tune on.
        count: settings to try.
        seed: of the settings.
    """
    settings = method.settings(count, seed)
    scores = torch.zeros(count)
    total = 0
    for stack in found:
        losses = tried(method, stack, settings)
        scores += log_share(losses).sum(0)
        total += len(stack.problems)
    best = int(scores.argmin())
    return settings[best], float(scores[best] / total)


def judge(
    group: str,
    found: Sequence[Stack],
    chosen: dict[str, dict[str, float]],
    policies: Sequence[NMFPolicy],
    clean: int,
) -> Result:
    """Run every method on every stack, with the same noise; `clean` as in `Settings`."""
    losses: dict[str, list[list[float]]] = {}
    outside: dict[str, list[float]] = {}
    for stack in found:
        runs = len(stack.problems)
        for name, setting in chosen.items():
            final = tried(METHODS[name], stack, [setting])[:, 0]
            losses.setdefault(name, []).append(_floats(final))
        for policy in policies:
            rule = Learned(policy, stack.steps, runs)
            final = run(stack, rule)
            losses.setdefault(f"learned {policy.name}", []).append(_floats(final))
            share = (rule.outside / (policy.windows - 1)).tolist()
            outside.setdefault(policy.name, []).extend(share)
    fallen = {name: float(np.mean(shares)) for name, shares in outside.items()}
    floors = [_floats(misfit(stack.problems, clean)) for stack in found]
    return Result(group, [stack.name for stack in found], losses, fallen, floors)


def misfit(problems: Problems, steps: int) -> Tensor:
    """Return the loss over the first one that a long descent without noise ends with, [problems].

    About what no rate can remove: noise of the data, and more components than are fitted.

    Args:
        problems: with their starts.
        steps: of the descent, at c = 1.
    """
    clean = replace(problems, level=torch.zeros_like(problems.level), share=1.0)
    descent = Descent(clean, seed=0)
    first, one = descent.loss(), torch.ones(len(problems))
    for _ in range(steps):
        descent.step(one)
    return descent.loss() / first


def _floats(x: Tensor) -> list[float]:
    return [float(value) for value in x]


@dataclass(frozen=True)
class Outcome:
    """All that was tuned and judged."""

    chosen: dict[str, dict[str, float]]
    scores: dict[str, float]  #: mean ln loss on the tuning problems
    results: list[Result]
    provenance: dict[str, Any]  #: policy -> how it was learned
    estimator: dict[str, dict[str, list[float]]]  #: of `nmf_estimator.measure`


def run_study(
    out: Path,
    page: Path,
    *,
    data: str | None,
    settings: Settings | None = None,
    progress: bool = True,
) -> Outcome:
    """Tune, judge, write the page and its figures; what is finished is kept in `out`.

    Args:
        out: folder for what was found.
        page: the Markdown file to write; its figures lie beside it.
        data: folder with the data sets.
        settings: the study's size.
        progress: show bars.
    """
    settings = settings or Settings()
    policies = [load(name) for name in settings.policies]
    kept = _Kept(out)
    with one_thread():
        tuning = stacks(TUNING, settings.tuning)
        found: dict[str, tuple[dict[str, float], float]] = {}
        for seed, name in tracked(list(enumerate(METHODS)), len(METHODS), "tuned", show=progress):
            key = {"method": name, "tuning": settings.tuning, "tried": settings.tried}
            found[name] = kept(
                key, lambda n=name, s=seed: tune(METHODS[n], tuning, settings.tried, s)
            )
        chosen = {name: dict(setting) for name, (setting, _) in found.items()}
        groups = {
            "held out": lambda: stacks(JUDGING, settings.judging),
            "200 x 120": lambda: large(settings.transfer),
            f"{settings.longest} steps": lambda: long(settings.transfer, settings.longest),
            **nmf_real.groups(settings.transfer[1], data),
        }
        digests = [policy.digest for policy in policies]
        results = []
        for name in tracked(list(groups), len(groups), "judged", show=progress):
            sizes = [settings.judging, settings.transfer, settings.clean]
            key = {"group": name, "sizes": sizes, "chosen": chosen, "of": digests}
            found_there = kept(
                key,
                lambda n=name: asdict(judge(n, groups[n](), chosen, policies, settings.clean)),
            )
            results.append(Result(**found_there))
        matrices = nmf_real.matrices(data)
        key = {"estimator": list(matrices), "starts": settings.starts, "of": digests}
        estimator = kept(key, lambda: nmf_estimator.measure(matrices, policies, settings.starts))
    outcome = Outcome(
        chosen,
        {name: score for name, (_, score) in found.items()},
        results,
        {policy.name: dict(policy.provenance) for policy in policies},
        estimator,
    )
    from evidence.nmf import figures as nmf_figures  # draw: loaded when needed
    from evidence.nmf import page as nmf_page

    page.parent.mkdir(parents=True, exist_ok=True)
    nmf_figures.draw(outcome, policies, page.parent)
    files.write_bytes(page, nmf_page.write_up(outcome, settings).encode())
    return outcome


class _Kept:
    """Results in JSON files, named by what they are of, so that a kill loses one at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, key: dict[str, Any], make: Any) -> Any:
        text = json.dumps(key, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, json.dumps({"of": key, "found": make()}).encode())
        return json.loads(path.read_text())["found"]
