"""Loading a saved state: which arguments of the constructor hold, and which are restored.

An argument that was given and differs from what was saved holds, with a warning; one that was left
out, or is None, takes what was saved. Where the memory would not fit it is refused by name.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ratewise.errors import InvalidState, RatewiseError, SettingsDifferWarning
from ratewise.rules.fixed import ramped
from ratewise.schedulers import checkpoint
from ratewise.schedulers.arguments import new_rates
from ratewise.schedulers.schedule import check_schedule, schedule_scale

if TYPE_CHECKING:
    from ratewise.schedulers.base import ScheduledLR

State = dict[str, Any]


class Place(NamedTuple):
    """Where a state keeps a constructor's argument."""

    paths: tuple[tuple[str, ...], ...]  #: of keys; together they are the argument's value
    memory: str = ""  #: what would not fit another value; the argument is refused then


def at(*paths: str, memory: str = "") -> Place:
    """Return a place; a path's keys are separated by dots.

    >>> at("rule.config.low", "rule.config.high").paths
    (('rule', 'config', 'low'), ('rule', 'config', 'high'))
    """
    return Place(tuple(tuple(path.split(".")) for path in paths), memory)


class Difference(NamedTuple):
    """An argument that was given, and is not what was saved."""

    name: str
    given: Any
    saved: Any

    def words(self) -> str:
        """Return it as it stands in a message.

        >>> Difference("total_steps", 500, 100).words()
        'total_steps=500 (saved: 100)'
        """
        return f"{self.name}={self.given!r} (saved: {self.saved!r})"


def override(
    saved: State, now: State, places: Mapping[str, Place], given: Collection[str]
) -> list[Difference]:
    """Write the arguments that were given into a state that is to be loaded.

    Args:
        saved: our part of the state; it is changed.
        now: our part of the state of the scheduler that loads it: its arguments are in force.
        places: where either keeps the arguments, by name.
        given: names of those that were given to its constructor.

    Raises:
        InvalidState: one differs that has to be as it was.
    """
    found = []
    for name in sorted(places.keys() & set(given)):
        place = places[name]
        mine, theirs = ([_read(state, path) for path in place.paths] for state in (now, saved))
        if mine == theirs:
            continue
        difference = Difference(name, _together(mine), _together(theirs))
        if place.memory:
            raise InvalidState(
                f"{difference.words()}: {place.memory}; construct the scheduler with "
                f"{name}={difference.saved!r}"
            )
        found.append(difference)
        for path, value in zip(place.paths, mine, strict=True):
            _write(saved, path, value)
    return found


def warn_differences(differences: list[Difference], consequences: str, stacklevel: int) -> None:
    """Warn of arguments that hold against what was saved.

    Args:
        differences: those.
        consequences: what follows, or nothing.
        stacklevel: of the warning, from here.
    """
    words = ", ".join(difference.words() for difference in differences)
    warnings.warn(
        f"arguments of the constructor hold against the saved state's: {words}{consequences}. To "
        "go on as saved, leave them out or pass what was saved",
        SettingsDifferWarning,
        stacklevel=stacklevel + 1,
    )


def load(
    scheduler: ScheduledLR, state_dict: dict[str, Any], lr: float | Sequence[float] | None
) -> None:
    """Do what `ScheduledLR.load_state_dict` says; a state that is refused changes nothing."""
    s = scheduler
    base = None if lr is None else new_rates(lr, len(s._groups()))
    now = s.state_dict()
    ours = checkpoint.checked(
        state_dict,
        like=now["ratewise"],
        table={**s._table, "rule": s._source.check},
        schedule=s.schedule,
        open_ended=s._open_ended,
    )
    try:
        before = copy.deepcopy(ours)
        differences = override(ours, now["ratewise"], s._places, s._holding(ours))
        names = {difference.name for difference in differences}
        s._follow(ours, before, names)
        if isinstance(ours["schedule"], str):
            length, ramp = ours["horizon"], ours["warmup_steps"]
            check_schedule(ours["schedule"], length, ramp, open_ended=s._open_ended)
        _take_over(s, ours, state_dict, base, names)
    except (RatewiseError, TypeError, ValueError, LookupError, AttributeError) as error:
        _take_over(s, now["ratewise"], now, None, set())
        if isinstance(error, RatewiseError):
            raise
        raise InvalidState(f"state_dict['ratewise'] is damaged: {error}") from error
    if differences:
        warn_differences(differences, _consequences(s, before), stacklevel=3)


def _take_over(
    scheduler: ScheduledLR,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    base: list[float] | None,
    changed: set[str],
) -> None:
    """Take over our part of a state and torch's, the latter as far as it goes."""
    s = scheduler
    s._to_host()
    s._source.restore(ours["rule"])
    s._restore(ours)
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


def annealing(saved: State) -> bool:
    """Return whether the run of a state is annealing already; its end then stays where it is."""
    return bool(saved["begin"]) or saved["horizon"] != saved["length"]


def _consequences(scheduler: ScheduledLR, saved: State) -> str:
    """Return, for a message, how the schedule differs from the one in our part of a state."""
    s = scheduler
    words = s._source.consequences(saved["rule"])
    if annealing(saved):
        words += f"; what was annealed ends at step {s.horizon} as before"
    if not isinstance(s.schedule, str) and not isinstance(saved["schedule"], str):
        return words
    ramp = s._source.in_optimizer_steps
    now, then = s.share(ramp=ramp), _share(saved, ramp)
    step = s._clock.elapsed
    return f"; at step {step} the schedule's height is {now:.4g} instead of {then:.4g}" + words


def _share(saved: State, in_optimizer_steps: bool) -> float:
    """Return the schedule's height that our part of a state has."""
    schedule = saved["schedule"] if isinstance(saved["schedule"], str) else None
    begin, step = max(saved["ramp_end"], saved["begin"]), saved["clock"]["elapsed"]
    if in_optimizer_steps:
        begin = max(saved["warmup_steps"], saved["begin"])
    scale = float(saved["height"]) * schedule_scale(schedule, step, saved["horizon"], begin)
    return ramped(scale, step, saved["warmup_steps"]) if in_optimizer_steps else scale


def _together(values: list[Any]) -> Any:
    """Return what is kept in several places once, where it is the same."""
    return values[0] if all(value == values[0] for value in values) else values


def _read(state: State, path: tuple[str, ...]) -> Any:
    for key in path:
        state = state[key]
    return state


def _write(state: State, path: tuple[str, ...], value: Any) -> None:
    _read(state, path[:-1])[path[-1]] = value
