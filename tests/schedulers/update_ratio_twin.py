"""UpdateRatioLR by the letter: a loop over tensors on Python numbers, for tests to compare with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ratewise.rules.fixed import FIXED
from ratewise.rules.update_ratio import LEAST_RMS, UpdateRatioConfig

BASE = 0.05


class Twin:
    """Steps an optimizer by itself, then puts every tensor where the definition says."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        config: UpdateRatioConfig,
        *,
        per: str = "tensor",
        schedule: str = "constant",
        total_steps: int = 1,
        measure_every: int = 1,
        early: int = 50,
        keep_proportions: bool = True,
    ) -> None:
        self.optimizer, self.config = optimizer, config
        self.every, self.early = measure_every, early
        self.share = lambda step: FIXED[schedule](min(step / total_steps, 1.0))
        self.base = [group["lr"] for group in optimizer.param_groups]
        groups = [group["params"] for group in optimizer.param_groups]
        self.params = [p for group in groups for p in group]
        self.units = {
            "tensor": [[p] for p in self.params],
            "group": groups,
            "model": [self.params],
        }[per]
        shares = [base / max(self.base) if keep_proportions else 1.0 for base in self.base]
        self.shares = {
            "tensor": [x for x, group in zip(shares, groups, strict=True) for _ in group],
            "group": shares,
            "model": [1.0],
        }[per]
        self.factor = [0.0] * len(self.units)
        self.settled = [0.0] * len(self.units)
        self.typical = 0.0
        self.count = self.decided = 0
        self.ratios: list[float] = []

    def step(self) -> None:
        share = self.share(self.count)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * share
        old = {id(p): p.detach().clone() for p in self.params}
        self.optimizer.step()
        applied = list(self.factor)
        if self.count < self.early or self.count % self.every == 0:
            applied = self.decide(old, share)
        applied = self.applied(applied)
        with torch.no_grad():
            for unit, factor in zip(self.units, applied, strict=True):
                for p in unit:
                    p.copy_(old[id(p)] + factor * (p - old[id(p)]))
        self.ratios = [length(p - old[id(p)]) / self.norm(old[id(p)]) for p in self.params]
        self.count += 1

    def applied(self, factors: list[float]) -> list[float]:
        return factors

    def norm(self, old: Tensor) -> float:
        return max(length(old), self.config.floor * self.typical * math.sqrt(old.numel()))

    def decide(self, old: dict[int, Tensor], share: float) -> list[float]:
        c, steps = self.config, max(1, self.count - self.decided)
        if not self.typical:
            matrices = [x for x in old.values() if x.ndim > 1 and length(x) > 0]
            total = sum(x.numel() for x in matrices)
            logs = [x.numel() * math.log(length(x) / math.sqrt(x.numel())) for x in matrices]
            self.typical = math.exp(sum(logs) / total) if total else LEAST_RMS
        applied = []
        for index, unit in enumerate(self.units):
            moved = math.hypot(*(length(p - old[id(p)]) for p in unit))
            against = math.hypot(*(self.norm(old[id(p)]) for p in unit))
            factor = self.factor[index]
            if moved == 0 or share < 1e-3:
                applied.append(factor)
                continue
            wanted = self.shares[index] * c.ratio / (moved / share / against)
            new = factor * (wanted / factor) ** c.gain if factor else c.start * wanted
            if factor:
                new = max(min(new, factor * c.rise**steps), factor / c.fall**steps)
            new = min(max(new, c.low), c.high)
            if self.count >= self.early and self.settled[index]:
                new = min(new, c.reach * self.settled[index])
            else:
                self.settled[index] = new
            self.factor[index] = new
            applied.append(min(self.factor[index], c.cap * wanted))
        self.decided = self.count
        return applied


def length(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.detach().double()))


class Task:
    """A regression in float64 in batches of eight, on a network of two parameter groups."""

    def __init__(
        self, make: Any, *, dtype: torch.dtype = torch.float64, zero: bool = False
    ) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(64, 5).to(dtype)
        self.y = (self.x[:, :2] * 2 + 0.3 * torch.randn(64, 2)).to(dtype)
        body, head = nn.Linear(5, 7).to(dtype), nn.Linear(7, 2).to(dtype)
        if zero:
            for p in (body.bias, *head.parameters()):
                nn.init.zeros_(p)
        self.model = nn.Sequential(body, nn.Tanh(), head)
        groups = [{"params": list(body.parameters())}, {"params": list(head.parameters())}]
        groups[1]["lr"] = BASE / 2
        self.optimizer = make(groups)
        self.sampler = torch.Generator().manual_seed(1)

    def backward(self) -> Tensor:
        index = torch.randint(64, (8,), generator=self.sampler)
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(self.x[index]), self.y[index])
        loss.backward()
        return loss.detach()

    def run(self, scheduler: Any, steps: int) -> Any:
        for _ in range(steps):
            self.backward()
            self.optimizer.step()
            scheduler.step()
        return scheduler

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def sgd(groups: Any, lr: Any = BASE, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, **more)


def adamw(groups: Any, lr: Any = BASE, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.1, **more)
