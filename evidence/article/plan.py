"""The article's claims on GreedyLR, tested: schedules, hypergradients, line search, size, LoRA.

Every method is tuned by the same number of runs (`RATES` values on two seeds) and judged by fresh
seeds on the test part. GreedyLR's defaults, those of the criterion of counts, were chosen on other
data than these; Fashion-MNIST and WikiText-2 developed those of the criterion of significance
(`python -m evidence greedy-defaults`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evidence.article import cost
from evidence.article import tasks as made
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule, named

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
    sizes: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: made.SIZES)
    pretraining: int = made.PRETRAINING
    cost: cost.Settings = field(default_factory=cost.Settings)


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
