"""Integrations, a file a framework; each is imported when it is first named."""

from __future__ import annotations

import importlib
from typing import Any

_FRAMEWORKS = ("keras", "lightning", "optax", "transformers")


def __getattr__(name: str) -> Any:
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module 'ratewise.integrations' has no attribute {name!r}")
    return importlib.import_module(f"ratewise.integrations.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRAMEWORKS})
