"""What a saved state must look like: a field, a kind and a range each, declared in one table.

A state dict may come from anybody. So every state that is read back has a table of its fields
(`record`), which is checked whole before anything is changed; what depends on several fields is
`require`d afterwards. Adding a field to a state is a line in its table.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ratewise.errors import InvalidState, RatewiseError
from ratewise.rules.checks import is_number

#: Takes a field's full name and its value; raises `InvalidState` unless the value is legal.
Check = Callable[[str, Any], None]

#: Counts above it are none: a float no longer tells them apart.
MOST = 2**53
#: The largest number that a tensor in float32 can hold.
SINGLE = (2.0 - 2.0**-23) * 2.0**127
#: No learning rate is larger: what others multiply it by, and bounds, stay finite.
LARGEST_RATE = 1e30


def require(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raise `InvalidState` unless `condition` holds.

    Args:
        condition: what must be so.
        name: of the field, with the names of those that it lies in.
        allowed: its range in words.
        value: what was found there.

    >>> require(False, "state['rates'][0]", "a finite number", float("nan"))
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidState: state['rates'][0] must be a finite number, got nan: pass what \
state_dict() returned
    """
    if not condition:
        got = reprlib.repr(value)  # short, however long or deep the value is
        raise InvalidState(f"{name} must be {allowed}, got {got}: pass what state_dict() returned")


def real(name: str, value: Any) -> None:
    """Check a number that may be NaN or infinite, such as a loss."""
    require(is_number(value), name, "a number", value)


def number(least: float = -sys.float_info.max, most: float = sys.float_info.max) -> Check:
    """Return the check of a finite number in [least, most].

    >>> number(0.0)("lr", 0.1)
    """
    low, high = least == -sys.float_info.max, most == sys.float_info.max
    allowed = "a finite number" + ("" if low else f" >= {least:g}")
    allowed = allowed if high else f"{allowed} and <= {most:.3g}"

    def check(name: str, value: Any) -> None:
        require(is_number(value) and least <= value <= most, name, allowed, value)

    return check


#: The check of a learning rate.
rate = number(0.0, LARGEST_RATE)


def above(least: float, most: float = sys.float_info.max) -> Check:
    """Return the check of a finite number > least."""

    def check(name: str, value: Any) -> None:
        legal = is_number(value) and least < value <= most
        require(legal, name, f"a finite number > {least:g}", value)

    return check


def count(least: int = 0, most: int = MOST) -> Check:
    """Return the check of an integer in [least, most]; booleans are refused."""

    def check(name: str, value: Any) -> None:
        legal = type(value) is int and least <= value <= most
        upper = f" and <= {most}" if most < MOST else ""
        require(legal, name, f"an integer >= {least}{upper}", value)

    return check


def flag(name: str, value: Any) -> None:
    """Check a boolean."""
    require(isinstance(value, bool), name, "True or False", value)


def text(name: str, value: Any) -> None:
    """Check a string."""
    require(isinstance(value, str), name, "a string", value)


def choice(*known: object) -> Check:
    """Return the check of one of some values, told apart by their kinds, too."""

    def check(name: str, value: Any) -> None:
        legal = any(type(value) is type(one) and value == one for one in known)
        require(legal, name, f"one of {list(known)}", value)

    return check


def optional(inner: Check) -> Check:
    """Return the check of what may be None."""

    def check(name: str, value: Any) -> None:
        if value is not None:
            inner(name, value)

    return check


def several(inner: Check, length: int | None = None, most: int | None = None) -> Check:
    """Return the check of a list, each entry of which passes `inner`."""

    def check(name: str, value: Any) -> None:
        require(isinstance(value, list), name, "a list", value)
        _of_length(name, value, length)
        require(most is None or len(value) <= most, name, f"at most {most} long", value)
        for index, entry in enumerate(value):
            inner(f"{name}[{index}]", entry)

    return check


def row(*inner: Check) -> Check:
    """Return the check of a list that has an entry for each of these checks."""

    def check(name: str, value: Any) -> None:
        require(isinstance(value, list), name, "a list", value)
        _of_length(name, value, len(inner))
        for index, (one, entry) in enumerate(zip(inner, value, strict=True)):
            one(f"{name}[{index}]", entry)

    return check


def _of_length(name: str, value: list[Any], length: int | None) -> None:
    require(length is None or len(value) == length, name, f"{length} long", value)


def record(table: Mapping[str, Check]) -> Check:
    """Return the check of a dict that has these fields and no others.

    >>> record({"steps": count(), "lr": number(0.0)})("state", {"steps": 3, "lr": -1.0})
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidState: state['lr'] must be a finite number >= 0, got -1.0: pass what \
state_dict() returned
    """

    def check(name: str, value: Any) -> None:
        require(isinstance(value, dict), name, "a dict", value)
        extra, lacking = (
            sorted(map(repr, keys)) for keys in (value.keys() - table, table - value.keys())
        )
        if extra or lacking:
            raise InvalidState(
                f"{name} has unknown keys [{', '.join(extra)}] and lacks [{', '.join(lacking)}]: "
                "it was not written by this version of ratewise"
            )
        for field, inner in table.items():
            inner(f"{name}[{field!r}]", value[field])

    return check


def settings(kind: Any) -> Check:
    """Return the check of a dataclass's fields as a dict: `kind` itself says their ranges."""

    def check(name: str, value: Any) -> None:
        record({field.name: plain for field in fields(kind)})(name, value)
        try:
            kind(**value)
        except RatewiseError as error:
            raise InvalidState(f"{name} is damaged: {error}") from error

    return check


def plain(name: str, value: Any) -> None:
    """Check a setting: a word, a flag, a number, or nothing."""
    whole = type(value) is int
    sound = abs(value) <= MOST if whole else isinstance(value, str | float | bool) or value is None
    require(sound, name, "a word or a number", value)


def same_length(name: str, state: Mapping[str, Any], *names: str) -> None:
    """Raise `InvalidState` unless these fields, which are lists, are of one length."""
    lengths = [len(state[field]) for field in names]
    if len(set(lengths)) > 1:
        both = ", ".join(f"{field} {length}" for field, length in zip(names, lengths, strict=True))
        raise InvalidState(
            f"{name} must have lists of one length, got {both}: pass what state_dict() returned"
        )
