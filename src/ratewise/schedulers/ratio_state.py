"""What the state of a `RatioControl` must look like: its tables, a line a field."""

from __future__ import annotations

import math
from typing import Any

from ratewise.rules import online, schema
from ratewise.rules.features import FEATURES, FeatureState
from ratewise.rules.schema import SINGLE, Check
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.schedulers import base_lrs
from ratewise.schedulers.parameters import PER

_RATES = schema.several(schema.above(0.0, schema.LARGEST_RATE))
#: Rates that a scheduler of update ratios takes.
_FULL = schema.several(schema.number(base_lrs.LEAST, base_lrs.MOST))
#: Vectors of a number a unit, a tensor or a group: float32 on the parameters' device.
_FACTORS = schema.several(schema.number(0.0, SINGLE))
_FEATURE = schema.number(-SINGLE, SINGLE)


def _ratio(name: str, value: Any) -> None:
    """Check a displacement in float32, which is not finite where the weights are not."""
    schema.real(name, value)
    legal = not math.isfinite(value) or abs(value) <= SINGLE
    schema.require(legal, name, "a number that float32 can hold", value)


#: What a policy remembers of a run: `PolicyState.to_state`.
POLICY: dict[str, Check] = {
    "policy": schema.text,
    "features": schema.record(
        {
            **dict.fromkeys(FeatureState._fields, _FEATURE),
            "means": schema.several(_FEATURE, length=3),
        }
    ),
    "correction": schema.number(2.0**-126, SINGLE),  # above 0 in float32, too
    "outside": schema.number(0.0, SINGLE),
    "seen": schema.several(_FEATURE, length=len(FEATURES)),
}
#: `OnlineCorrection.to_state`.
ONLINE: dict[str, Check] = {
    "on": schema.flag,
    "value": schema.number(-online.MOST * (1 + 1e-6), online.MOST * (1 + 1e-6)),  # in float32
    "last": _FACTORS,
}
#: `Displacement.to_state`.
DISPLACEMENT: dict[str, Check] = {
    "factor": _FACTORS,
    "settled": _FACTORS,
    "typical": schema.number(0.0, SINGLE),
    "probe": schema.several(schema.number(1.0, 1e4)),  # up to `displacement.PROBE`
    "ratios": schema.several(_ratio),
    "measure_every": schema.count(1),
    "steps": schema.count(),
    "decided": schema.count(),
    "shapes": schema.several(schema.several(schema.count())),
    "policy": schema.optional(schema.record(POLICY)),
    "online": schema.record(ONLINE),
}
#: `RatioControl.to_state`.
CONTROL: dict[str, Check] = {
    "config": schema.settings(UpdateRatioConfig),
    "per": schema.choice(*PER),
    "base": _RATES,
    "full": _FULL,
    "keep_proportions": schema.flag,
    "largest": schema.above(0.0),
    "proportions": schema.several(schema.above(0.0, 1.0)),
    "displacement": schema.record(DISPLACEMENT),
}


def check(name: str, state: Any) -> None:
    """Raise `InvalidState` unless the part of a state of a `RatioControl` is legal.

    Args:
        name: where it lies.
        state: it.
    """
    schema.record(CONTROL)(name, state)
    schema.same_length(name, state, "base", "full", "proportions")
