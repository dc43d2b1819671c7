"""Every snippet of README and of the site runs as it stands, and every change to a script too.

A snippet of Python is run; of a diff what comes of it is run, and what was there before. What a
page leaves out is named by a comment above the snippet, `<!-- setup: NAME -->`, and stands in
`snippet_setups.py`; README has none.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.snippet_setups import SETUPS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(
    r"(?:<!-- setup: (?P<setup>\w+) -->\n)?^```(?P<kind>python|diff)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    kind: str
    setup: str
    code: str

    def versions(self) -> list[str]:
        """Return the code to run: of a diff what there was before, and what comes of it."""
        if self.kind == "python":
            return [self.code]
        return ["\n".join(_kept(self.code, sign)) for sign in "-+"]


def _kept(diff: str, sign: str) -> list[str]:
    """Return a diff's lines of one side, without their first sign."""
    return [line[1:] for line in diff.splitlines() if not line or line[0] in f" {sign}"]


def snippets(page: Path) -> list[Snippet]:
    """Return the snippets of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(
            page,
            text[: found.start("kind")].count("\n") + 1,
            found["kind"],
            found["setup"] or "none",
            found["code"],
        )
        for found in _FENCE.finditer(text)
    ]


ALL = [snippet for page in PAGES for snippet in snippets(page)]


def run(code: str, setup: str) -> dict[str, Any]:
    """Run code after what it stands on; return its names."""
    names: dict[str, Any] = {"__name__": "snippet"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(SETUPS[setup], f"setup {setup}", "exec"), names)
        exec(compile(code, "snippet", "exec"), names)
    return names


def _scheduler(names: dict[str, Any]) -> Any:
    """Return the scheduler that a script ended with, wherever it keeps it."""
    model = getattr(names.get("trainer"), "lightning_module", None)
    return getattr(model, "scheduler", None) or names.get("scheduler")


@pytest.mark.parametrize("snippet", ALL, ids=lambda s: f"{s.page.name}:{s.line}")
def test_a_snippet_runs(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if snippet.setup == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.chdir(tmp_path)
    *before, after = snippet.versions()
    for code in before:
        run(code, snippet.setup)
    names = run(after, snippet.setup)
    scheduler = _scheduler(names)
    if snippet.kind == "diff" and scheduler is not None:
        assert type(scheduler).__module__.startswith("ratewise")
        assert scheduler.last_epoch >= 2, "it was stepped"


def test_readme_stands_on_nothing_and_has_snippets():
    mine = [snippet for snippet in ALL if snippet.page.name == "README.md"]
    assert len(mine) >= 4
    assert {snippet.setup for snippet in mine} == {"none"}


def test_every_change_takes_something_out_or_puts_something_in():
    for snippet in ALL:
        if snippet.kind == "diff":
            before, after = snippet.versions()
            assert before != after, snippet
            assert "ratewise" in snippet.code


def test_a_snippet_that_does_not_run_is_seen(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("<!-- setup: torch -->\n```diff\n model\n-optimizer\n+scheduler\n```\n")
    (snippet,) = snippets(page)
    before, after = snippet.versions()
    run(before, snippet.setup)
    with pytest.raises(NameError, match="scheduler"):
        run(after, snippet.setup)


def test_every_setup_is_used():
    assert {snippet.setup for snippet in ALL} == set(SETUPS)
