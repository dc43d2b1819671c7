"""A scheduler's state as plain data, and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ratewise.errors import InvalidState, RatewiseError
from ratewise.schedulers import checkpoint
from ratewise.schedulers.anchor import check_anchor
from ratewise.schedulers.arguments import new_rates
from ratewise.schedulers.prevailing import prevail, tell
from ratewise.schedulers.rates import HostRates

if TYPE_CHECKING:
    from ratewise.schedulers.reactive import ReactiveLR


def state_of(scheduler: ReactiveLR) -> dict[str, Any]:
    """Return what `ReactiveLR.state_dict` does: torch's keys, and ours under "ratewise"."""
    s = scheduler
    anchor = s._anchor if s._anchor is None or isinstance(s._anchor, str) else True
    ours = {
        "format": checkpoint.FORMAT,
        "scheduler": type(s).__name__,
        "anchor": anchor,
        "length": s._length,
        "horizon": s.horizon,
        "missing": s.missing,
        "every": s.every,
        "warmup_steps": s.warmup_steps,
        "groups": s._chosen,
        "seen": s._seen,
        "clock": s._clock.state(),
        "ramp_end": s._ramp_end,
        **s._period.state(),
        **s._rates.state(s._groups()),
        **s._record.state(),
        "rule": s._own_state(),
    }
    return {
        "last_epoch": s._now(),
        "_step_count": s._step_count,
        "_last_lr": [float(group["lr"]) for group in s.optimizer.param_groups],
        "base_lrs": [float(rate) for rate in s.base_lrs],
        "ratewise": ours,
    }


def load(
    scheduler: ReactiveLR, state_dict: dict[str, Any], lr: float | Sequence[float] | None
) -> None:
    """Do what `ReactiveLR.load_state_dict` says; nothing is changed by a state that is refused."""
    base = None if lr is None else new_rates(lr, len(scheduler._groups()))
    now = scheduler.state_dict()
    ours = checkpoint.checked(
        state_dict, like=now["ratewise"], anchor=scheduler._anchor, rule=scheduler._check_own
    )
    try:
        before = copy.deepcopy(ours)
        differences = prevail(ours, now["ratewise"], scheduler._places, scheduler._given)
        names = {difference.name for difference in differences}
        scheduler._follow(ours, before, names)
        if isinstance(ours["anchor"], str):
            check_anchor(ours["anchor"], ours["horizon"], ours["warmup_steps"])
        _take_over(scheduler, ours, state_dict, base, names)
    except (RatewiseError, TypeError, ValueError, LookupError, AttributeError) as error:
        _take_over(scheduler, now["ratewise"], now, None, set())
        if isinstance(error, RatewiseError):
            raise
        raise InvalidState(f"state_dict['ratewise'] is damaged: {error}") from error
    if differences:
        tell(differences, scheduler._consequences(before), stacklevel=3)


def _take_over(
    scheduler: ReactiveLR,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    base: list[float] | None,
    changed: set[str],
) -> None:
    """Take over our part of a state and torch's, the latter as far as it goes."""
    s = scheduler
    s._to_host()
    s._restore_own(ours["rule"])
    s._read_policy()
    if not callable(s._anchor):
        s._anchor = ours["anchor"]
    s._length, s.horizon, s.missing = ours["length"], ours["horizon"], ours["missing"]
    s.every, s.warmup_steps = ours["every"], ours["warmup_steps"]
    s._seen = ours["seen"]
    s._clock.restore(ours["clock"])
    s._ramp_end = int(ours["ramp_end"])
    s._period.restore(ours)
    s._record.restore(ours)
    s._rates = HostRates()
    s._rates.restore(s._groups(), ours)
    s.last_epoch = theirs.get("last_epoch", s.last_epoch)
    s._step_count = theirs.get("_step_count", s._step_count)
    if base is not None:
        s._set_base(base, restart=True)
    else:
        s._name_base()
        if changed:
            s._told_past = False
            s._write()
    s._to_device(s._rates_device(), unless_cpu=True)
