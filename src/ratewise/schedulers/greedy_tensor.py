"""The GreedyLR rule on tensors that stay on their device: nothing is read to decide."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ratewise.rules import greedy
from ratewise.rules.greedy import CLAMPED, NONE, GreedyState
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.significance import Evidence
from ratewise.rules.smoothing import Window, rolling_mean, slots


class TensorGreedy:
    """One run's rule by the shared definition, with the interface of `FloatGreedy`.

    The state is updated in place, so that a CUDA graph which captured an update goes on from
    where the last replay ended.

    Args:
        rule: where to go on from; its settings, bounds and memory are taken over.
        device: where the state lives.
        dtype: float type of the state.
    """

    def __init__(self, rule: FloatGreedy, device: torch.device, dtype: torch.dtype) -> None:
        self.config = rule.config
        self.limits = rule.limits
        plain = rule.state()
        self._zero = torch.zeros((), dtype=dtype, device=device)

        def number(value: float | list[float]) -> Tensor:
            return torch.tensor(value, dtype=dtype, device=device)

        def whole(value: int) -> Tensor:
            return torch.tensor(value, device=device)

        ring = Window(number(plain["values"]), whole(plain["position"]), whole(plain["count"]))
        found = rule.evidence
        evidence = None
        if found is not None:
            size = slots(rule.config.window)
            evidence = Evidence(
                values=number(found.values + [0.0] * (size - len(found.values))),
                count=whole(len(found.values)),
                trend=whole(found.trend),
                best=number(found.best + [0.0] * (size - len(found.best))),
                best_count=whole(len(found.best)),
                excess=whole(found.excess),
                **{name: number(getattr(found, name)) for name in _NUMBERS},
            )
        self._state = GreedyState(
            scale=tuple(number(scale) for scale in plain["scale"]),
            ring=ring,
            reference=number(plain["reference"]),
            known=whole(plain["known"]),
            **{name: whole(plain[name]) for name in ("good", "bad", "stage", "floored", "reason")},
            evidence=evidence,
        )

    def anew(self, rule: FloatGreedy) -> TensorGreedy:
        """Return one that goes on from another rule, on the same device with the same type."""
        return TensorGreedy(rule, self._zero.device, self._zero.dtype)

    @property
    def scale(self) -> tuple[Tensor, ...]:
        """The decision, one scalar tensor a parameter group."""
        return self._state.scale

    def before(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return copies of what the next metric meets: reference (NaN if none), good, bad."""
        state = self._state
        return (
            torch.where(state.known, state.reference, torch.nan),
            state.good.clone(),
            state.bad.clone(),
        )

    def update(self, loss: Tensor) -> None:
        """Take one metric in and decide."""
        new = greedy.update(
            self._state, loss=loss, config=self.config, limits=self.limits, xp=torch
        )
        for old, values in zip(_by_kind(self._state), _by_kind(new), strict=True):
            torch._foreach_copy_(old, values)

    def changed(self) -> Tensor:
        """Return whether the last update changed the rate, as a boolean on the device."""
        reason = self._state.reason
        return (reason > NONE) & (reason < CLAMPED)

    def told(self, metric: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `FloatGreedy.told` would, on the device."""
        ring, found = self._state.ring, self._state.evidence
        if found is None:
            return torch.where(ring.count > 0, rolling_mean(ring), metric), reference, self._zero
        none = (found.mean == 0) & (found.before == 0) & (found.errors == 0)
        return (
            torch.where(none, metric, found.mean),
            torch.where(none, torch.nan, found.before),
            found.errors,
        )

    def restart(self) -> None:
        """Put every scale back to 1."""
        for scale in self._state.scale:
            scale.fill_(1.0)

    @property
    def reason(self) -> Tensor:
        """The reason of the last decision, an index into `REASONS`, on the device."""
        return self._state.reason

    def state(self) -> dict[str, Any]:
        """Return what `FloatGreedy.state` would: waits for the device."""
        state = self._state
        plain = {
            "scale": [float(scale) for scale in state.scale],
            "values": state.ring.values.tolist(),
            "position": int(state.ring.position),
            "count": int(state.ring.count),
            "reference": float(state.reference),
            "known": bool(state.known),
        }
        names = ("good", "bad", "stage", "floored", "reason")
        evidence = None if state.evidence is None else _plain(state.evidence)
        return plain | {k: int(getattr(state, k)) for k in names} | {"evidence": evidence}


#: Fields of `Evidence` that are single floats.
_NUMBERS = ("mean", "before", "errors")


def _plain(evidence: Evidence) -> dict[str, Any]:
    """Return what `FloatEvidence.state` would."""
    return {
        "values": evidence.values[: int(evidence.count)].tolist(),
        "best": evidence.best[: int(evidence.best_count)].tolist(),
        **{name: float(getattr(evidence, name)) for name in _NUMBERS},
    }


def _by_kind(state: GreedyState) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the floats, the integers and the boolean: copies go in bulk by type."""
    floats = [*state.scale, state.ring.values, state.reference]
    whole = [state.ring.position, state.ring.count]
    whole += [state.good, state.bad, state.stage, state.floored, state.reason]
    found = state.evidence
    if found is not None:
        floats += [found.values, found.best, found.mean, found.before, found.errors]
        whole += [found.count, found.trend, found.best_count, found.excess]
    return floats, whole, [state.known]
