"""Makes all runs of the study of the article, and writes its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evidence.article import cost
from evidence.article import page as pages
from evidence.article import tasks as made
from evidence.article.numbers import Parts
from evidence.article.plan import ALONE, OURS, RIVALS, SIZED, Settings, rival
from evidence.how import How
from ratewise.compare import analysis, sweep
from ratewise.compare import plan as planning
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule, named
from ratewise.compare.task import Task
from ratewise.compare.tuning import tuned_rates
from ratewise.runs import RunRecord, Store

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> Parts:
    """Make all runs, write the page and its figures, and return what was run; resumable."""
    settings = settings or Settings()
    how.check("schedules", "sizes", "lora")
    go = _Sweeps(how, settings)
    schedules = go(
        "schedules", settings.tasks, settings.optimizers, [*OURS, *map(named, settings.baselines)]
    )
    starts = {
        (method.task, method.optimizer): tuned.base_lr
        for method, tuned in tuned_rates(schedules).items()
        if method.schedule == "constant"
    }
    rivals = []
    for task in settings.tasks:
        optimizers = [
            rival(name, starts[task, base])
            for name, base in RIVALS.items()
            if base in settings.optimizers
        ]
        rivals += go(f"rivals-{task}", [task], optimizers, [ALONE])
    common = [named(name) for name in SIZED]
    sized = [made.sized(name, x, how.data, settings.steps) for name, x in settings.sizes.items()]
    sizes = go("sizes", sized, ["adamw"], common)
    weights = made.pretrain(
        how.out / "pretrained", how.data, settings.pretraining, progress=how.progress
    )
    lora = go("lora", [made.adapted(weights, how.data, settings.steps)], ["adamw"], common)
    costs = cost.measure(how.out / "costs.json", settings.cost, progress=how.progress)
    parts = Parts(schedules, rivals, sizes, lora, costs, weights.test_loss)
    pages.write(parts, settings, how.page)
    return parts


@dataclass(frozen=True)
class _Sweeps:
    """Comparisons of one size, each in a store of its own."""

    how: How
    settings: Settings

    def __call__(
        self,
        name: str,
        tasks: Sequence[str | Task],
        optimizers: Sequence[str | Optimizer],
        schedules: Sequence[Schedule],
    ) -> list[RunRecord]:
        """Tune and judge; return the runs."""
        plan = planning.make(
            tasks,
            optimizers,
            schedules,
            seeds=self.settings.seeds,
            tuning_seeds=self.settings.tuning_seeds,
            rates=self.settings.rates,
            preset="small",
            data=self.how.data,
            steps=self.settings.steps,
        )
        with Store(self.how.out / name) as store:
            tuned = sweep.tune(plan, store, where=self.how.where, progress=self.how.progress)
            sweep.judge(plan, tuned, store, where=self.how.where, progress=self.how.progress)
            return analysis.load(store).records
