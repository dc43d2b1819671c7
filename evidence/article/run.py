"""Makes all runs of the study of the article, and writes its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evidence.article import cost
from evidence.article import page as pages
from evidence.article import tasks as made
from evidence.article.numbers import Parts
from evidence.article.plan import ALONE, OURS, RIVALS, SIZED, Settings, rival
from evidence.simulated import stored
from ratewise.compare import analysis, sweep
from ratewise.compare import plan as planning
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule, named
from ratewise.compare.task import Task
from ratewise.compare.tuning import tuned_rates
from ratewise.runs import RunRecord, Store

SIZES = {"": Settings()}


def run(
    out: Path,
    page: Path,
    *,
    settings: Settings | None = None,
    data: str | None = None,
    jobs: int = 1,
    page_only: bool = False,
    progress: bool = True,
) -> Parts:
    """Make all runs, write the page and its figures, and return what was run; resumable.

    Args:
        out: folder for the runs.
        page: the Markdown file to write; its figures lie beside it.
        settings: the study's size.
        data: folder with the data sets.
        jobs: processes.
        page_only: refuse to begin where no run has been made.
        progress: show bars.
    """
    settings = settings or Settings()
    if page_only:
        for name in ("schedules", "sizes", "lora"):
            stored(out / name)
    go = _Sweeps(out, settings, data, jobs, progress)
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
    sized = [made.sized(name, x, data, settings.steps) for name, x in settings.sizes.items()]
    sizes = go("sizes", sized, ["adamw"], common)
    weights = made.pretrain(out / "pretrained", data, settings.pretraining, progress=progress)
    lora = go("lora", [made.adapted(weights, data, settings.steps)], ["adamw"], common)
    costs = cost.measure(out / "costs.json", settings.cost, progress=progress)
    parts = Parts(schedules, rivals, sizes, lora, costs, weights.test_loss)
    pages.write(parts, settings, page)
    return parts


@dataclass(frozen=True)
class _Sweeps:
    """Comparisons of one size, each in a store of its own."""

    out: Path
    settings: Settings
    data: str | None
    jobs: int
    progress: bool

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
            data=self.data,
            steps=self.settings.steps,
        )
        with Store(self.out / name) as store:
            tuned = sweep.tune(plan, store, jobs=self.jobs, progress=self.progress)
            sweep.judge(plan, tuned, store, jobs=self.jobs, progress=self.progress)
            return analysis.load(store).records
