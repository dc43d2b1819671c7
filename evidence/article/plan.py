"""The article's claims on GreedyLR, tested: schedules, hypergradients, line search, size, LoRA.

Every method is tuned by the same number of runs (`RATES` values on two seeds) and judged by fresh
seeds on the test part. GreedyLR's defaults were chosen on other data than these
(`ratewise study greedy-defaults`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evidence.article import cost as article_cost
from evidence.article import tasks as article_tasks
from ratewise.compare import analysis, sweep
from ratewise.compare import plan as planning
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule, named
from ratewise.compare.task import Task
from ratewise.compare.tuning import tuned_rates
from ratewise.runs import RunRecord, Store, files

TASKS = (
    "fashion-mlp",
    "fashion-cnn",
    "cifar-cnn",
    "cifar-resnet",
    "wikitext-gru",
    "shakespeare-transformer",
    "polarity-text",
    "polarity-attention",
)
OPTIMIZERS = ("sgd", "adamw", "adagrad", "adafactor")
BASELINES = ("constant", "linear", "cosine", "polynomial", "step", "exponential", "plateau")
#: The paper's setting (arXiv 2512.14527: F = 0.95, patience 10, window 50), and that of
#: transformers.GreedyLR but for its bounds, which lie above most of these rates: 0.1 and 10
#: times the initial rate, as in the others.
OURS = (
    named("greedy"),
    Schedule("greedy-paper", "greedy", {"factor": 0.95, "patience": 10, "window": 50}),
    Schedule(
        "greedy-transformers",
        "greedy",
        {
            "factor": 0.95,
            "patience": 10,
            "window": 1,
            "threshold": 1e-6,
            "threshold_mode": "abs",
            "stage": "hold",
            "reset_after": 500,
            "eps_mode": "abs",
            "first": "good",
        },
    ),
)
#: An optimizer that chooses its rate itself is left alone.
ALONE = Schedule("none", "none")
#: What is compared with what, the optimizer's schedule of ours first.
RIVALS = {
    "hypergradient-element": "sgd",
    "hypergradient-tensor": "sgd",
    "hypergradient-group": "sgd",
    "line-search": "sgd",
    "hypergradient-adam": "adamw",
    "line-search-adam": "adamw",
}
SIZED = ("greedy", "cosine", "linear", "constant")


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tasks: tuple[str, ...] = TASKS
    optimizers: tuple[str, ...] = OPTIMIZERS
    baselines: tuple[str, ...] = BASELINES
    rates: int = 7
    tuning_seeds: int = 2
    seeds: int = 5
    steps: int | None = None
    sizes: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: article_tasks.SIZES)
    pretraining: int = article_tasks.PRETRAINING
    cost: article_cost.Settings = field(default_factory=article_cost.Settings)


@dataclass(frozen=True)
class Parts:
    """All that was run: records of each part, and what the methods cost."""

    schedules: list[RunRecord]
    rivals: list[RunRecord]
    sizes: list[RunRecord]
    lora: list[RunRecord]
    costs: list[article_cost.Cost]
    pretrained: float  #: test loss of the model that LoRA adapts, before it


def rival(name: str, start: float) -> Optimizer:
    """Return a method that chooses the rate itself, with the argument that is tuned of it.

    Hypergradient descent is tuned over its hyper-rate, a value a decade, from the rate that a
    constant schedule was best with: a start that it gets as a gift. A line search is tuned over
    the largest rate that it may take.

    Args:
        name: a key of `RIVALS`.
        start: the starting rate of hypergradient descent.
    """
    if name.startswith("line-search"):
        return Optimizer(name, name)
    adam = name == "hypergradient-adam"
    kind = "hypergradient-adam" if adam else "hypergradient-sgd"
    per = "group" if adam else name.split("-")[1]
    low = 1e-10 if adam else 1e-7
    return Optimizer(name, kind, {"per": per, "lr": start}, "hyper_lr", low, decades=6.0)


def run(
    out: Path,
    page: Path,
    *,
    data: str | None,
    jobs: int = 1,
    settings: Settings | None = None,
    progress: bool = True,
) -> Parts:
    """Make all runs, write the page and its figures, and return what was run; resumable.

    Args:
        out: folder for the runs.
        page: the Markdown file to write; its figures lie beside it.
        data: folder with the data sets.
        jobs: processes.
        settings: the study's size.
        progress: show bars.
    """
    settings = settings or Settings()
    go = _Sweeps(out, settings, data, jobs, progress)
    schedules = go(
        "schedules",
        settings.tasks,
        settings.optimizers,
        [*OURS, *map(named, settings.baselines)],
    )
    starts = {
        (method.task, method.optimizer): tuned.base_lr
        for method, tuned in tuned_rates(schedules).items()
        if method.schedule == "constant"
    }
    rivals = [
        record
        for task in settings.tasks
        for record in go(
            f"rivals-{task}",
            [task],
            [
                rival(name, starts[task, base])
                for name, base in RIVALS.items()
                if base in settings.optimizers
            ],
            [ALONE],
        )
    ]
    sized = [
        article_tasks.sized(name, size, data, settings.steps)
        for name, size in settings.sizes.items()
    ]
    sizes = go("sizes", sized, ["adamw"], [named(name) for name in SIZED])
    pretrained = article_tasks.pretrain(
        out / "pretrained", data, settings.pretraining, progress=progress
    )
    adapted = article_tasks.adapted(pretrained, data, settings.steps)
    lora = go("lora", [adapted], ["adamw"], [named(name) for name in SIZED])
    costs = article_cost.measure(out / "costs.json", settings.cost, progress=progress)
    parts = Parts(schedules, rivals, sizes, lora, costs, pretrained.test_loss)

    from evidence.article import figures as article_figures  # draw: loaded when needed
    from evidence.article import page as article_page

    page.parent.mkdir(parents=True, exist_ok=True)
    article_figures.draw(parts, settings.tasks, page.parent)
    files.write_bytes(page, article_page.write_up(parts, settings).encode())
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
