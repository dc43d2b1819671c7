"""Calls that may end the process or never return, made in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CALL = """
import sys
from ratewise.errors import RatewiseError
{code}
try:
    found = call({arguments})
except RatewiseError as error:
    print(type(error).__name__, error)
else:
    print("returned", found)
"""


def outcome(code: str, *paths: Path, seconds: float = 120.0) -> str:
    """Return what a function `call` did: "returned ..." or the named error with its words.

    Args:
        code: Python that defines `call`.
        paths: what it is called with.
        seconds: after so many it hangs, which is an error.

    Raises:
        AssertionError: the process died, or ended with another error.
    """
    arguments = ", ".join(repr(str(path)) for path in paths)
    line = [sys.executable, "-c", _CALL.format(code=code, arguments=arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-800:]}"
    return done.stdout.strip()
