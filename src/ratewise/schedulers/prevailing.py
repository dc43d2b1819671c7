"""Which holds when a run goes on, a constructor's argument or a saved state's setting.

An argument that was given and differs from what was saved holds, with a warning; one that was left
out, or is None, takes what was saved. Where memory would not fit it is refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ratewise.errors import InvalidState, SettingsDifferWarning

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


def prevail(
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


def tell(differences: list[Difference], consequences: str, stacklevel: int) -> None:
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


def _together(values: list[Any]) -> Any:
    """Return what is kept in several places once, where it is the same."""
    return values[0] if all(value == values[0] for value in values) else values


def _read(state: State, path: tuple[str, ...]) -> Any:
    for key in path:
        state = state[key]
    return state


def _write(state: State, path: tuple[str, ...], value: Any) -> None:
    _read(state, path[:-1])[path[-1]] = value
