"""Our part of a scheduler's state dict: checked whole before anything is touched."""

from __future__ import annotations

import copy
from typing import Any

from ratewise.errors import InvalidState, RatewiseError
from ratewise.schedulers.anchor import check_anchor
from ratewise.schedulers.arguments import check_timing

#: Format of our part of a state dict; another one is refused.
FORMAT = 3


def checked(state_dict: object, *, like: dict[str, Any], anchor: object) -> dict[str, Any]:
    """Return a copy of our part of `state_dict` in the current format.

    Args:
        state_dict: what somebody wants to load.
        like: our part of the state of the scheduler that is to load it: which keys it has,
            how many groups, which class.
        anchor: that scheduler's anchor; a function cannot come from a file.

    Raises:
        InvalidState: it is of another scheduler, another number of groups or another anchor,
            of another format, or has unknown or missing keys.
    """
    name = like["scheduler"]
    if not isinstance(state_dict, dict) or not isinstance(state_dict.get("ratewise"), dict):
        keys = sorted(map(str, state_dict)) if isinstance(state_dict, dict) else None
        got = type(state_dict).__name__ if keys is None else f"keys {keys}"
        raise InvalidState(
            f"state_dict must hold the key 'ratewise', got {got}: "
            f"pass what {name}.state_dict() returned"
        )
    ours = copy.deepcopy(state_dict["ratewise"])
    version = ours.get("format")
    if type(version) is not int or version != FORMAT:
        raise InvalidState(
            f"state_dict['ratewise']['format'] must be {FORMAT}, got {version!r}: a newer one "
            "needs a newer ratewise, and states from before version 0.1.0 cannot be read"
        )
    _same_keys("state_dict['ratewise']", ours, like)
    if ours["scheduler"] != name:
        raise InvalidState(
            f"state_dict is of a {ours['scheduler']}, this is a {name}: load it into its own kind"
        )
    _same_keys("state_dict['ratewise']['rule']", ours["rule"], like["rule"])
    for part, expected in like["rule"].items():
        if isinstance(expected, dict):
            _same_keys(f"state_dict['ratewise']['rule'][{part!r}]", ours["rule"][part], expected)
    _check_values(ours)
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
    if (ours["anchor"] is True) != callable(anchor):
        then = "a function" if ours["anchor"] is True else repr(ours["anchor"])
        now = "a function" if callable(anchor) else repr(anchor)
        raise InvalidState(
            f"anchor was {then} when the state was saved, and is {now} now: construct {name} "
            "with the same anchor (a function is not saved)"
        )
    return ours


def _check_values(ours: dict[str, Any]) -> None:
    """Raise unless the values are of the kinds that we write."""
    try:
        check_timing(ours["missing"], ours["every"], ours["warmup_steps"])
        if isinstance(ours["anchor"], str):
            check_anchor(ours["anchor"], ours["horizon"], ours["warmup_steps"])
    except RatewiseError as error:
        raise InvalidState(f"state_dict['ratewise'] is damaged: {error}") from error
    lists = [ours[name] for name in ("rates", "own", "outside")]
    numbers = (
        isinstance(values, list) and all(isinstance(value, int | float) for value in values)
        for values in lists
    )
    if not all(numbers) or len({len(values) for values in lists}) > 1:
        raise InvalidState("state_dict['ratewise'] is damaged: rates, own, outside do not match")


def _same_keys(where: str, got: object, expected: dict[str, Any]) -> None:
    if not isinstance(got, dict):
        raise InvalidState(f"{where} must be a dict, got {type(got).__name__}")
    extra, lacking = sorted(set(got) - set(expected)), sorted(set(expected) - set(got))
    if extra or lacking:
        raise InvalidState(
            f"{where} has unknown keys {extra} and lacks {lacking}: "
            "it was not written by this version of ratewise"
        )
