"""Writes the repository's address into a release: `python .github/address.py ADDRESS TAG`.

A package index shows README without the files beside it, so that a link to a file leads nowhere
there. Where the repository lies is known to the workflow that releases it and to no file, so it is
written into the checkout that is built, and not committed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(!?)(\[[^\]]*\])\(([^)\s]+)\)")
_BEFORE = "[project.optional-dependencies]\n"


def absolute(page: str, address: str, tag: str) -> str:
    """Return a page whose links to files lead to the repository at a tag."""

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if target.startswith("#") or "://" in target:
            return found[0]
        return f"{image}{text}({address}/{'raw' if image else 'blob'}/{tag}/{target})"

    return _LINK.sub(link, page)


def with_urls(project: str, address: str, tag: str) -> str:
    """Return a pyproject.toml that says where source, changes and issues are."""
    if project.count(_BEFORE) != 1:
        raise ValueError(f"pyproject.toml must have {_BEFORE.strip()} once")
    urls = [
        "[project.urls]",
        f'Source = "{address}"',
        f'Changelog = "{address}/blob/{tag}/CHANGELOG.md"',
        f'Issues = "{address}/issues"',
    ]
    return project.replace(_BEFORE, "\n".join([*urls, "", _BEFORE]))


def write(folder: Path, address: str, tag: str) -> None:
    """Write the address into a checkout's README.md and pyproject.toml."""
    for name, change in (("README.md", absolute), ("pyproject.toml", with_urls)):
        path = folder / name
        path.write_text(change(path.read_text(encoding="utf-8"), address, tag), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[1], *sys.argv[1:])
