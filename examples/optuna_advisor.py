"""Optuna with ratewise's Advisor: first the runs that it proposes, then those of the sampler.

Needs `pip install optuna`. Past studies that were told to the same file say where to begin.
"""

from __future__ import annotations

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

import ratewise
from ratewise.curves import Key

STEPS, BUDGET = 60, 4


def train(ratio: float, seed: int) -> float:
    """Return the held-out loss of a small network after a short training."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = ratewise.UpdateRatioLR(optimizer, ratio=ratio, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(1400, (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x[1400:]), y[1400:]))


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    key = Key("digits", optimizer="adamw", total_steps=STEPS, unit="ratio")
    advisor = ratewise.Advisor("advisor.json", key=key, budget=BUDGET)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        return train(trial.suggest_float("ratio", 1e-4, 0.5, log=True), seed=0)

    while (advice := advisor.ask()) is not None:
        study.enqueue_trial({"ratio": advice.value})
        study.optimize(objective, n_trials=1)
        advisor.tell(advice, study.trials[-1].value)
        print(f"ratio {advice.value:.4g}: held-out loss {study.trials[-1].value:.4f}")
    print(f"Advisor: {advisor.best():.4g}, {advisor.reason}")
    study.optimize(objective, n_trials=2)  # the sampler goes on from what it was shown
    print(f"Optuna: {study.best_params['ratio']:.4g} of {len(study.trials)} runs")


if __name__ == "__main__":
    main()
