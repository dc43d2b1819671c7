"""What is kept of a callback: its state's form, and the file of the last two epochs."""

from __future__ import annotations

import json
import os
from typing import Any

from ratewise.errors import InvalidState, wrong_type
from ratewise.files import writing
from ratewise.integrations.keras.settings import CallbackSettings
from ratewise.rules import schema
from ratewise.rules.greedy_float import MEMORY, check_memory

#: Format of `GreedyLR.state_dict` and of its file; a newer one is refused.
FORMAT = 1
CALLBACK = "ratewise.integrations.keras.GreedyLR"
#: What `state_dict` must look like; settings are compared one by one.
_STATE = {
    "format": schema.count(1, FORMAT),
    "callback": schema.text,
    "settings": lambda name, value: None,
    "iterations": schema.count(),
    "base": schema.several(schema.rate),
    "step": schema.count(),
    "period": schema.record(
        {"seen": schema.count(), "finite": schema.count(), "total": schema.real}
    ),
    "memory": schema.record(MEMORY),
}


def checked(state: Any, where: str, settings: CallbackSettings) -> dict[str, Any]:
    """Return a state if it is sound in every part.

    Args:
        state: what `GreedyLR.state_dict` returned, or what a stranger's file holds.
        where: it comes from, for the errors.
        settings: it must be of; where they name no criterion, any will do.

    Raises:
        InvalidState: a foreign, newer or damaged state, or one of other settings.
    """
    if not isinstance(state, dict) or state.get("callback") != CALLBACK:
        raise InvalidState(f"{where} is not of a {CALLBACK}: pass what state_dict() returned")
    version, saved = state.get("format"), state.get("settings")
    settings = settings.as_saved(saved if isinstance(saved, dict) else {})
    own = settings.plain()
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise InvalidState(
            f"{where}: format must be in 1..{FORMAT}, got {version!r}: a newer one needs a "
            "newer ratewise"
        )
    if saved != own:
        got = saved if isinstance(saved, dict) else {}
        other = [key for key, value in own.items() if got.get(key, ()) != value]
        raise InvalidState(
            f"{where} was saved with other settings ({', '.join(other)}): construct GreedyLR "
            "with the same ones"
        )
    schema.record(_STATE)(where, state)
    check_memory(f"{where}['memory']", state["memory"], settings.config, len(state["base"]))
    seen, finite = state["period"]["seen"], state["period"]["finite"]
    allowed = f"below decide_every={settings.decide_every}"
    schema.require(seen < settings.decide_every, f"{where}['period']['seen']", allowed, seen)
    schema.require(finite <= seen, f"{where}['period']['finite']", f"at most {seen}", finite)
    return state


class StateFile:
    """The states of the last two epochs in one JSON file, which is replaced in one piece.

    Args:
        path: of the file; None keeps nothing.
        settings: that the states must be of.

    Raises:
        WrongType: `path` is no path.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: CallbackSettings) -> None:
        if not (path is None or isinstance(path, str | os.PathLike)):
            raise wrong_type("state_file", "a path", path, "pass e.g. 'greedy.json'")
        self.path, self._settings = path, settings
        self._states: list[dict[str, Any]] = []  # the newest last

    def read(self) -> list[dict[str, Any]]:
        """Return the states, the newest last; none if there is no file.

        Raises:
            InvalidState: the file is damaged, or not of these settings.
        """
        self._states = []
        if self.path is None or not os.path.exists(self.path):
            return []
        where = os.fspath(self.path)
        try:
            with open(where, encoding="utf-8") as file:
                states = list(json.load(file)["states"])
        except (ValueError, KeyError, TypeError) as error:
            fix = "restore it, or move it away to begin anew"
            raise InvalidState(f"{where} is damaged ({error}): {fix}") from error
        self._states = [checked(state, where, self._settings) for state in states]
        return self._states

    def save(self, state: dict[str, Any]) -> None:
        """Put a state and the one before it into the file, if there is one."""
        if self.path is None:
            return
        older = [other for other in self._states if other["iterations"] < state["iterations"]]
        self._states = [*older[-1:], state]
        writing.write(os.fspath(self.path), json.dumps({"states": self._states}))
