"""A slow, literal twin of the GreedyLR rule: plain Python, one statement per sentence.

It exists to be compared with the fast rule at every step, so it shares no line with it. Lists
grow without bound, means are summed from scratch, and nothing is vectorised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


class GreedyTwin:
    """GreedyLR on a list of base rates (one a parameter group), one metric a step.

    A group's rate is ``base * scale * schedule(t)``, where t counts the steps taken. ``scales``,
    ``good``, ``bad``, ``best``, ``previous``, ``stage_left`` and ``reason`` are open to look at.
    """

    def __init__(
        self,
        rates: Sequence[float],
        *,
        factor: float = 0.95,
        patience: int = 10,
        window: int = 1,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        reference: str = "best",
        plateau: str = "bad",
        warmup: int = 0,
        cooldown: int = 0,
        stage: str = "extend",
        min_lr: float | Sequence[float] | None = None,
        max_lr: float | Sequence[float] | None = None,
        mode: str = "min",
        reset_after: int | None = None,
        eps: float = 1e-8,
        eps_mode: str = "rel",
        first: str = "none",
        on_nonfinite: str = "bad",
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.base = [float(rate) for rate in rates]
        self.factor, self.patience, self.window = factor, patience, window
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.reference, self.plateau, self.mode = reference, plateau, mode
        self.warmup, self.cooldown, self.stage_kind = warmup, cooldown, stage
        self.reset_after, self.eps, self.eps_mode = reset_after, eps, eps_mode
        self.first, self.on_nonfinite, self.schedule = first, on_nonfinite, schedule
        lows = _per_group(min_lr, [0.1 * b for b in self.base])
        highs = _per_group(max_lr, [10.0 * b for b in self.base])
        self.low_scale = [low / b for low, b in zip(lows, self.base, strict=True)]
        self.high_scale = [high / b for high, b in zip(highs, self.base, strict=True)]
        self.t = 0
        self.forget()

    def forget(self) -> None:
        """Go back to how the rule was born: scale 1 and no memory of metrics."""
        self.scales = [1.0] * len(self.base)
        self.seen: list[float] = []
        self.best: float | None = None
        self.previous: float | None = None
        self.good = self.bad = 0
        self.stage = "none"
        self.stage_left = 0
        self.resets_pending = 0
        self.reason = "none"

    def rates(self) -> list[float]:
        """Return each group's rate now."""
        schedule = 1.0 if self.schedule is None else self.schedule(self.t)
        return [b * s * schedule for b, s in zip(self.base, self.scales, strict=True)]

    def step(self, metric: float) -> str:
        """Take one metric, change the scales, and return the reason."""
        self.t += 1
        # 1. A non-finite metric never enters best, the window or a rate.
        usable = math.isfinite(metric)
        mean = math.nan
        if usable:
            # 2. The mean of the last finite metrics.
            self.seen.append(metric)
            last = self.seen[-self.window :]
            mean = sum(last) / len(last)
            usable = math.isfinite(mean)
            if not usable:  # a sum that overflows is no metric either
                self.seen.pop()
        if not usable and self.on_nonfinite == "skip":
            self.reason = "nonfinite"
            return self.reason

        self.reason = "none" if usable else "nonfinite"
        in_stage, self.stage_left = self.stage_left > 0, max(self.stage_left - 1, 0)
        if in_stage and self.stage_kind == "hold":
            self.good = self.bad = 0
            return self.reason
        # 3. Better, worse or neither.
        if usable:
            self._count(self._compare(mean), mean)
        else:
            self._count("worse", None)
        # 4. The stage.
        if in_stage:
            if self.stage_kind == "extend":
                moved = self._move(self.stage == "warmup")
                self.reason = self.stage if moved else "clamped"
                return self.reason
            if self.stage == "warmup":
                self.good = 0
            else:
                self.bad = 0
        # 5. Decide.
        if self.good > self.patience:
            self._increase()
        elif self.bad > self.patience:
            self._decrease()
        return self.reason

    def _compare(self, mean: float) -> str:
        reference = self.best if self.reference == "best" else self.previous
        if reference is None:
            return "better" if self.first == "good" else "first"
        distance = self.threshold
        if self.threshold_mode == "rel":
            distance = self.threshold * abs(reference)
        lower, higher = mean < reference - distance, mean > reference + distance
        better, worse = (lower, higher) if self.mode == "min" else (higher, lower)
        if better:
            return "better"
        if worse or self.plateau == "bad":
            return "worse"
        return "neutral"

    def _count(self, verdict: str, mean: float | None) -> None:
        if verdict == "better":
            self.good, self.bad = self.good + 1, 0
        elif verdict == "worse":
            self.good, self.bad = 0, self.bad + 1
        if mean is not None:
            self.previous = mean
            if verdict in ("better", "first"):
                self.best = mean

    def _increase(self) -> None:
        moved = self._move(up=True)
        self.reason = "increase" if moved else "clamped"
        self.stage, self.stage_left = "warmup", self.warmup
        self.good = 0
        self.resets_pending = 0

    def _decrease(self) -> None:
        moved = self._move(up=False)
        self.reason = "decrease" if moved else "clamped"
        self.stage, self.stage_left = "cooldown", self.cooldown
        self.bad = 0
        roundings = 1.0 + 16 * 2.0**-52  # a scale a few roundings above its bound is at it
        lowest = [low * roundings for low in self.low_scale]
        if all(s <= low for s, low in zip(self.scales, lowest, strict=True)):
            self.resets_pending += 1
            if self.reset_after is not None and self.resets_pending >= self.reset_after:
                self.forget()
                self.reason = "reset"
                if self.stage_kind == "hold":
                    self.stage, self.stage_left = "cooldown", self.cooldown

    def _move(self, up: bool) -> bool:
        # 6. Clamp, each group alone; a change below eps is not worth applying.
        moved = False
        for i, old in enumerate(self.scales):
            new = old / self.factor if up else old * self.factor
            new = min(max(new, self.low_scale[i]), self.high_scale[i])
            change = abs(new - old)
            worth = change > self.eps * old
            if self.eps_mode == "abs":
                worth = change * self.base[i] > self.eps
            if worth:
                self.scales[i] = new
                moved = True
        return moved


def _per_group(bound: float | Sequence[float] | None, default: list[float]) -> list[float]:
    if bound is None:
        return default
    if isinstance(bound, Sequence):
        return [float(b) for b in bound]
    return [float(bound)] * len(default)
