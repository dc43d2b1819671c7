"""Measurements beside their page, as JSON: a page is written again without measuring again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from evidence import page as pages
from evidence.how import How
from ratewise.errors import RatewiseError, StoreError
from ratewise.files import writing

#: From a size and the data folder to what was measured; it can be written as JSON.
Measure = Callable[[Any, "str | None"], dict[str, Any]]


class NotMeasured(RatewiseError, RuntimeError):
    """There is nothing here to measure on."""


def command(measure: Measure, text: Callable[[dict[str, Any]], str]) -> Callable[[How, Any], None]:
    """Return what measures, keeps the measurements beside the page, and writes it from them.

    Args:
        measure: measures everything.
        text: makes the page of what was kept.
    """

    def run(how: How, settings: Any) -> None:
        page, kept = how.page, how.page.with_suffix(".json")
        if not how.page_only:
            measured = plain(measure(settings, how.data))
            writing.write(kept, json.dumps(measured, indent=1) + "\n")
        elif not kept.exists():
            raise StoreError(f"{kept} is missing: measure first, without --page-only")
        pages.write(page, text(json.loads(kept.read_text(encoding="utf-8"))))

    return run


def plain(value: Any) -> Any:
    """Return named tuples as dictionaries, and what is in them, too."""
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
