"""Other forms of the online correction, on short trainings that may develop: is one safe?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evidence import code, simulated
from evidence.results import Result, Results
from evidence.run_table import Row
from evidence.simulated import Planned
from evidence.update_ratio import plan
from evidence.update_ratio.plan import Unit
from evidence.update_ratio.watched import APART, APART_FREE, FREE, WHOLE, Corrected, Watched
from ratewise.compare import training
from ratewise.compare.statistics import CAP
from ratewise.rules.ratio_law import FRESH, WITH_PASSES, default_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Task, UpdateRatio, arguments
from ratewise.simulate.runner import Training
from ratewise.simulate.task import Data

#: One consecutive pair of steps in so many, and one batch held out.
EVERY = 5
#: What is tried under SGD; under AdamW those of `ADAMW`.
FORMS: dict[str, dict[str, Any]] = {
    "whole step": {"by": WHOLE},
    "whole step, a fifth of the gain": {"by": WHOLE, "gain": 0.02},
    "whole step, target -0.02": {"by": WHOLE, "target": -0.02},
    f"whole step, a pair in {EVERY}": {"by": WHOLE, "every": EVERY},
    "momentum-free step": {"by": FREE},
    "momentum-free step, a fifth of the gain": {"by": FREE, "gain": 0.02},
    f"momentum-free step, a pair in {EVERY}": {"by": FREE, "every": EVERY},
    f"held-out batch, whole step, one in {EVERY}": {"by": APART, "every": EVERY},
    f"held-out batch, momentum-free step, one in {EVERY}": {"by": APART_FREE, "every": EVERY},
    "momentum-free step, random sign": {"by": FREE, "random": True},
}
ADAMW = ("whole step", f"held-out batch, whole step, one in {EVERY}")
ALONE = "no correction"
#: What is begun at, of the law's ratio.
SHARES = (1.0, 0.25)
SEEDS = (21, 22)
UNITS = (
    Unit("mlp", "sgd", 400, 1),
    Unit("residual mlp", "sgd", 400, 1),
    Unit("mlp, batch 64", "sgd", 400, 1),
    Unit("mlp", "sgd", 2000, 1),
    Unit("mlp", "sgd", 400, 8),
    Unit("diabetes", "sgd", 400, 0),
    Unit("breast cancer", "sgd", 400, 0),
    Unit("mlp", "adamw", 400, 8),
    Unit("diabetes", "adamw", 400, 0),
    Unit("breast cancer", "adamw", 400, 0),
)
_MADE_BY = ("evidence.update_ratio.watched",)
#: Microseconds of a core that a step of one stacked run takes.
_COST = 150


def wanted(units: Sequence[Unit] = UNITS) -> dict[str, Unit]:
    """Return the units by the digest of all that determines their runs."""
    found = {}
    for unit in units:
        tried = [forms(unit), SHARES, SEEDS, EVERY, WITH_PASSES]
        text = json.dumps(["corrections", *unit, *tried, code.digest(*_MADE_BY)])
        found[hashlib.sha256(text.encode()).hexdigest()[:16]] = unit
    return found


def forms(unit: Unit) -> dict[str, dict[str, Any]]:
    """Return what is tried under a unit's optimizer."""
    names = ADAMW if unit.optimizer == "adamw" else tuple(FORMS)
    return {ALONE: {}, **{name: FORMS[name] for name in names}}


def row(unit: Unit) -> Row:
    """Return what a unit takes."""
    runs = len(forms(unit)) * len(SHARES) * len(SEEDS)
    return Row(runs, unit.steps, runs * unit.steps * _COST * 1e-6)


def made(unit: Unit) -> list[Result]:
    """Train a unit's runs, side by side."""
    task = plan.task(unit)
    ratio = default_ratio(unit.steps, max(1, round(unit.steps / unit.passes)))
    planned = []
    for name, options in forms(unit).items():
        for share in SHARES:
            rule = UpdateRatio(UpdateRatioConfig(ratio=share * ratio))
            for seed in SEEDS:
                config = {"optimizer": unit.optimizer}
                steered = Corrected(rule, **options)
                planned.append(Planned(config, name, steered, 0.01, share, seed))
    trained = _trained(task, unit, planned)
    return simulated.kept(str(unit), planned, trained, simulated.ends, training.versions())


def _trained(task: Task, unit: Unit, planned: Sequence[Planned]) -> Any:
    request = arguments.check(
        task,
        unit.optimizer,
        [one.rule for one in planned],
        runs=len(planned),
        steps=unit.steps,
        lr=[one.lr for one in planned],
        noise=None,
        seed=[one.seed for one in planned],
        device="cpu",
        dtype=torch.float32,
        every=unit.steps,
        memory=1 << 31,
        compile=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEEDS[0])
        runs = Training(request, range(len(planned)))
        draw = _Apart(task, [one.seed for one in planned])
        runs.stack = Watched(runs.stack, draw, EVERY)  # type: ignore[assignment]
        for _ in range(unit.steps):
            runs.step()
        return runs.finish()


class _Apart:
    """Draws batches of the rows held out, one after another, the same for all runs.

    The rows judge at the end, too: a run takes one number from them.
    """

    def __init__(self, task: Task, seeds: Sequence[int]) -> None:
        self._batch, self._at = min(task.batch_size, task.held_out), 0
        by_seed = {seed: task.data_for(seed) for seed in dict.fromkeys(seeds)}
        parts = [tuple(x[-task.held_out :] for x in by_seed[seed]) for seed in seeds]
        self._rows: Data = tuple(torch.stack(part) for part in zip(*parts, strict=True))

    def __call__(self) -> Data:
        """Return the next batch."""
        count = self._rows[0].shape[1]
        where = torch.arange(self._at, self._at + self._batch) % count
        self._at = (self._at + self._batch) % count
        return tuple(x[:, where] for x in self._rows)


def there(results: Results, units: Sequence[Unit] = UNITS) -> list[Unit]:
    """Return the units that were made."""
    return [unit for name, unit in wanted(units).items() if name in results]


def rows(results: Results, units: Sequence[Unit] = UNITS) -> list[list[str]]:
    """Return a row a form: over the same ratio's loss alone, geometric means and the largest."""
    found: dict[tuple[str, str, float], list[list[float]]] = {}
    for name, unit in wanted(units).items():
        if name not in results:
            continue
        data = "fresh data" if unit.passes <= FRESH else "many passes"
        logs = _logs(results.of(name))
        for (form, share), values in logs.items():
            if form != ALONE:
                more = [x - y for x, y in zip(values, logs[ALONE, share], strict=True)]
                found.setdefault((f"{unit.optimizer}, {data}", form, share), []).append(more)
    order = sorted(found, key=lambda key: (key[0], -key[2]))
    return [
        [data, f"{share:g}", form, str(len(found[data, form, share])), *cells]
        for data, form, share in order
        for cells in [_cells(np.array(found[data, form, share]))]
    ]


def _cells(values: np.ndarray) -> list[str]:
    """Return geometric means over units, and in parentheses the largest, for both losses."""
    return [f"{math.exp(x.mean()):.3f} ({math.exp(x.max()):.3f})" for x in values.T]


def _logs(runs: Sequence[Result]) -> dict[tuple[str, float], list[float]]:
    """Return ln of losses over the first, means over seeds, by form and share: both losses."""
    by: dict[tuple[str, float], list[list[float]]] = {}
    for run in runs:
        initial, *ends = run.losses
        share = float(run.setting.rpartition(" ")[2])
        capped = [math.log(min(max(x / initial, 0.01), CAP)) for x in ends]
        by.setdefault((run.method, share), []).append(capped)
    return {key: np.mean(x, 0).tolist() for key, x in by.items()}
