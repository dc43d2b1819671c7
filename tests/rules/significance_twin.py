"""A slow, literal twin of the rule that waits for significance: every pair, at every step.

It takes steps, stages and bounds from the twin of the counting rule and shares no line with the
fast one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.rules.greedy_twin import GreedyTwin


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


class SignificanceTwin(GreedyTwin):
    """GreedyLR with ``criterion="significance"``."""

    def __init__(self, rates: Sequence[float], *, window: int = 200, **settings: Any) -> None:
        self.most = window
        super().__init__(rates, **{"factor": 0.8, "patience": 0, "window": 1, **settings})

    def forget(self) -> None:
        super().forget()
        self.stretch: list[float] = []
        self.best_stretch: list[float] = []
        self.lost = False

    def step(self, metric: float) -> str:
        self.lost = self.ended = False
        return super().step(metric)

    def _compare(self, value: float) -> str:
        self.stretch.append(value)
        x, y = self.stretch, self.best_stretch
        n, m = len(x), len(y)
        up = 1 if self.mode == "min" else -1  # the wrong direction
        trend = up * sum(sign(x[j] - x[i]) for j in range(n) for i in range(j))
        excess = up * sum(sign(a - b) for a in x for b in y)
        spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
        apart = math.sqrt(n * m * (n + m + 1) / 3)

        verdict = "none"
        if n > 1:
            older, newer = mean(x[: n // 2]), mean(x[n // 2 :])
            if trend < -2.5 * spread and up * (older - newer) > self._margin(older):
                verdict = "better"
            if trend > 2.5 * spread and up * (newer - older) > self._margin(older):
                verdict = "worse"
            if m and excess > 3 * apart and trend >= 0:
                before = mean(y)
                if up * (newer - before) > self._margin(before):
                    verdict, self.lost = "worse", True
        if verdict == "none" and n == self.most:
            verdict = "worse" if self.plateau == "bad" else "neutral"
        elif verdict == "none":
            return "neutral"
        self._end_stretch()
        return verdict

    def _margin(self, reference: float) -> float:
        relative = self.threshold_mode == "rel"
        return self.threshold * abs(reference) if relative else self.threshold

    def _end_stretch(self) -> None:
        if self.ended or not self.stretch:
            return
        self.ended = True
        up = 1 if self.mode == "min" else -1
        pairs = [up * sign(a - b) for a in self.stretch for b in self.best_stretch]
        if not self.best_stretch or sum(pairs) < 0 or self.lost:
            self.best_stretch = self.stretch
        self.stretch = []

    def _increase(self) -> None:
        super()._increase()
        self._end_stretch()

    def _decrease(self) -> None:
        usual = self.factor
        self.factor = min(usual, 0.5) if self.lost else usual
        super()._decrease()
        self.factor = usual
        if self.reason != "reset":
            self.good = -1
            self._end_stretch()
