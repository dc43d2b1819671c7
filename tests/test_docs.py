"""The site builds without a warning, its links lead somewhere, and every public name is there."""

from __future__ import annotations

import html
import importlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import tests.test_wheel as wheel

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
#: Packages whose names are public.
PUBLIC = ("ratewise", "compare", "curves", "nmf", "optimizers", "runs", "simulate")


class Page(HTMLParser):
    """The links and anchors of a page, and what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[name] or "" for name in ("id", "name") if name in found}
        for name in ("href", "src"):
            if found.get(name):
                self.links.append(found[name] or "")
                if name == "src" or tag == "link":
                    self.fetched.append(found[name] or "")


#: What a style sheet fetches.
_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")


def from_elsewhere(site: Path) -> set[str]:
    """Return what the pages and style sheets of a site fetch over a network."""
    found: set[str] = set()
    for path in site.rglob("*.html"):
        found.update(Page(path.read_text(encoding="utf-8")).fetched)
    for path in site.rglob("*.css"):
        found.update(_STYLE.findall(path.read_text(encoding="utf-8")))
    return {link for link in found if urlsplit(link).netloc}


def broken(pages: dict[Path, Page], top: Path) -> list[str]:
    """Return the links inside the site that lead nowhere."""
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (target in pages and parts.fragment not in {"", *anchors}):
                found.append(f"{path.relative_to(top)}: {link}")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    for name in ("sphinx", "furo", "myst_parser", "sphinx_copybutton", "latex2mathml"):
        pytest.importorskip(name, reason="the group docs is not installed")
    folder = tmp_path_factory.mktemp("docs")
    line = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    line += ["-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "site")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_link_inside_the_site_leads_somewhere(site: Path):
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 30
    assert broken(pages, site) == []


def test_a_link_to_nowhere_is_seen(tmp_path: Path):
    (tmp_path / "a.html").write_text('<a id="x" href="b.html"></a><a href="#x"></a><a href="#y">')
    path = tmp_path / "a.html"
    assert broken({path: Page(path.read_text())}, tmp_path) == ["a.html: b.html", "a.html: #y"]


def test_no_page_needs_a_network(site: Path):
    assert from_elsewhere(site) == set()


def test_what_a_page_fetches_is_seen(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        '<a href="https://a/x"></a><img src="b.png"><script src="https://c/d.js"></script>'
        '<link href="//e/f.css">'
    )
    (tmp_path / "a.css").write_text("@import 'https://g/h.css'; p { background: url(https://i/j) }")
    assert from_elsewhere(tmp_path) == {
        "https://c/d.js",
        "//e/f.css",
        "https://g/h.css",
        "https://i/j",
    }


def test_formulas_are_drawn_by_the_browser(site: Path):
    page = (site / "reference" / "schedulers.html").read_text(encoding="utf-8")
    formulas = re.findall(r'<div class="math"><math .*?</math></div>', page, re.DOTALL)
    assert len(formulas) >= 4
    text = html.unescape("".join(formulas))
    assert "‖" in text, "the bars of a norm"
    assert "\\" not in text, "a command that nobody knew"
    assert "linebreak" not in text


def _short(name: str) -> str:
    """Return a name as the package itself has it."""
    return f"ratewise.{name.rpartition('.')[2]}"


def names() -> set[str]:
    """Return every public name with its package."""
    found = set()
    for package in PUBLIC:
        home = "ratewise" if package == "ratewise" else f"ratewise.{package}"
        found |= {f"{home}.{name}" for name in importlib.import_module(home).__all__}
    return found - {"ratewise.__version__"}


def test_every_public_name_is_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.rst")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    described = set(re.findall(r"^\.\. (?:auto)?\w+:: (\S+)$", text, re.MULTILINE))
    missing = {name for name in names() if not {name, _short(name)} & described}
    assert missing == set()
    assert "ratewise.GreedyLR" in names()


def test_the_errors_that_people_meet_have_a_page_to_read():
    from ratewise import errors

    text = (ROOT / "docs" / "reference" / "errors.rst").read_text(encoding="utf-8")
    named = re.findall(r":class:`~ratewise\.errors\.(\w+)`", text)
    assert {"MissingLoss", "OverwrittenRateWarning", "MissingExtra"} <= set(named)
    assert all(hasattr(errors, name) for name in named)
    pages = re.findall(r":doc:`/(\w+)`", text)
    assert len(pages) >= len(named)
    assert all((ROOT / "docs" / f"{page}.md").exists() for page in pages)


def test_the_command_line_s_page_names_every_command():
    from ratewise import cli

    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    for prefix, group in (("", cli.app), ("nmf ", cli.nmf), ("runs ", cli.runs)):
        for one in group.registered_commands:
            name = one.name or one.callback.__name__
            assert f"`ratewise {prefix}{name}" in page, name


def test_the_search_finds_a_scheduler_and_code_can_be_copied(site: Path):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index[index.index("{") : index.rindex("}") + 1])
    assert "greedylr" in found["terms"] or "greedylr" in found["titleterms"]
    assert "copybutton.js" in (site / "start.html").read_text(encoding="utf-8")


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for link in _LINK.findall(text):
        assert urlsplit(link).scheme or (ROOT / link).exists(), link


@pytest.mark.parametrize("page", ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_the_other_papers_lead_somewhere(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert page in wheel.PAPERS
    for link in _LINK.findall(text):
        assert urlsplit(link).scheme or (ROOT / link).exists(), link
