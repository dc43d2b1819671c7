"""A statement where some packages are not installed: `python without.py NAME,NAME STATEMENT`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Absent(MetaPathFinder):
    """Finds nothing under some names, as where they are not installed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def hide(names: Sequence[str]) -> None:
    """Make the packages of these names absent, those that are loaded already, too.

    What of ratewise is loaded may have them, so it is to be imported anew.
    """
    gone = {*names, "ratewise"}
    for module in [name for name in sys.modules if name.partition(".")[0] in gone]:
        del sys.modules[module]
    sys.meta_path.insert(0, Absent(names))
    real = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in names else real(name, package)

    importlib.util.find_spec = found


if __name__ == "__main__":
    hide(sys.argv[1].split(","))
    exec(compile(sys.argv[2], "statement", "exec"), {"__name__": "__main__"})
