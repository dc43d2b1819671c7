"""Which numbers a page lost, and which it gained, when the code that writes it was changed.

python -m tests.evidence.page_numbers BEFORE.md AFTER.md
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def numbers(text: str) -> Counter[str]:
    """Return every number of a page with how often it stands there."""
    return Counter(found.rstrip(",") for found in _NUMBER.findall(text))


def lost(before: str, after: str) -> Counter[str]:
    """Return what stands in the new page less often than in the old one."""
    return numbers(before) - numbers(after)


def gained(before: str, after: str) -> list[str]:
    """Return the numbers below the new page's opening that the old one has nowhere."""
    rest = after[after.index("\nMade by") :]
    return sorted(set(numbers(rest)) - set(numbers(before)))


if __name__ == "__main__":
    old, new = (Path(path).read_text(encoding="utf-8") for path in sys.argv[1:3])
    print(f"lost: {dict(lost(old, new))}\ngained: {gained(old, new)}")
