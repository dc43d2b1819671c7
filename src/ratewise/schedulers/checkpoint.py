"""Our part of a scheduler's state dict: checked whole before anything is touched."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Mapping
from typing import Any

from ratewise.errors import InvalidState, RatewiseError
from ratewise.rules import schema
from ratewise.rules.schema import Check
from ratewise.schedulers import clock, events, rates, trace
from ratewise.schedulers.schedule import check_saved, check_schedule

#: Format of our part of a state dict; another one is refused.
FORMAT = 4

#: What others may have multiplied a rate by: a schedule of ours that ends near 0 is included.
MOST_OUTSIDE = 1e60

#: What our part of every scheduler's state has, besides its source's.
TABLE: dict[str, Check] = {
    "schedule": check_saved,
    "length": schema.optional(schema.count(1)),
    "horizon": schema.optional(schema.count(1)),
    "begin": schema.count(),
    "height": schema.number(0.0, 1.0),
    "warmup_steps": schema.count(),
    "groups": schema.optional(schema.several(schema.count())),
    "clock": schema.record(clock.TABLE),
    "ramp_end": schema.count(),
    "alone": schema.count(),
    "stride": schema.count(),
    "events": events.CHECK,
    "trace": trace.CHECK,
    **rates.TABLE,
}
#: What torch has at the top that we take back, where it is there.
#: (A scheduler that waits for its turn in a `SequentialLR` stands at -1.)
THEIRS: dict[str, Check] = {"last_epoch": schema.count(-1), "_step_count": schema.count()}


def checked(
    state_dict: object,
    *,
    like: dict[str, Any],
    table: Mapping[str, Check],
    schedule: object,
    open_ended: bool,
) -> dict[str, Any]:
    """Return a copy of our part of `state_dict` in the current format.

    Args:
        state_dict: what is to be loaded.
        like: our part of the state of the scheduler that is to load it: which class it is of, how
            many groups and which.
        table: what checks each of its fields, besides the format and the scheduler's name.
        schedule: that scheduler's; a function cannot come from a file.
        open_ended: its schedule may have no end yet.

    Raises:
        InvalidState: it is of another scheduler, another number of groups or another schedule,
            of another format, has unknown or missing keys, or a value outside its range.
    """
    name = like["scheduler"]
    if not isinstance(state_dict, dict) or not isinstance(state_dict.get("ratewise"), dict):
        keys = sorted(map(str, state_dict)) if isinstance(state_dict, dict) else None
        got = type(state_dict).__name__ if keys is None else f"keys {keys}"
        raise InvalidState(
            f"state_dict must hold the key 'ratewise', got {got}: "
            f"pass what {name}.state_dict() returned"
        )
    ours = state_dict["ratewise"]
    version = ours.get("format")
    if type(version) is not int or version != FORMAT:
        raise InvalidState(
            f"state_dict['ratewise']['format'] must be {FORMAT}, got {reprlib.repr(version)}: a "
            "newer one needs a newer ratewise, and states from before version 0.1.0 cannot be read"
        )
    where = "state_dict['ratewise']"
    kind = ours.get("scheduler", name)
    schema.text(f"{where}['scheduler']", kind)
    if kind != name:
        raise InvalidState(
            f"state_dict is of a {kind}, this is a {name}: load it into its own kind "
            f"({where}['scheduler'] says what it is of)"
        )
    schema.record({"format": schema.choice(FORMAT), "scheduler": schema.text, **table})(where, ours)
    schema.same_length(where, ours, "rates", "own", "outside")
    for index, (now, own) in enumerate(zip(ours["rates"], ours["own"], strict=True)):
        legal = now <= own * MOST_OUTSIDE or not own
        schema.require(legal, f"{where}['rates'][{index}]", f"near own = {own:g}", now)
    for key, check in THEIRS.items():
        if key in state_dict:
            check(f"state_dict[{key!r}]", state_dict[key])
    if isinstance(ours["schedule"], str):
        length, ramp = ours["horizon"], ours["warmup_steps"]
        try:
            check_schedule(ours["schedule"], length, ramp, open_ended=open_ended)
        except RatewiseError as error:
            raise InvalidState(f"{where} is damaged: {error}") from error
    if len(ours["rates"]) != len(like["rates"]):
        raise InvalidState(
            f"state_dict is of {len(ours['rates'])} parameter groups, the optimizer has "
            f"{len(like['rates'])}: add the same groups before loading"
        )
    if ours["groups"] != like["groups"]:
        raise InvalidState(
            f"state_dict schedules groups {ours['groups']}, this scheduler {like['groups']}: "
            "construct it with the same groups"
        )
    if (ours["schedule"] is True) != callable(schedule):
        then = "a function" if ours["schedule"] is True else repr(ours["schedule"])
        now = "a function" if callable(schedule) else repr(schedule)
        raise InvalidState(
            f"schedule was {then} when the state was saved, and is {now} now: construct {name} "
            "with the same schedule (a function is not saved)"
        )
    return copy.deepcopy(ours)
