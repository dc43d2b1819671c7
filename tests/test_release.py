"""The workflows call what there is, on the versions that are promised; a release has addresses."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="reads pyproject.toml")
yaml = pytest.importorskip("yaml", reason="reads the workflows")

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_spec = importlib.util.spec_from_file_location("address", ROOT / ".github" / "address.py")
assert _spec is not None
assert _spec.loader is not None
address = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(address)


def commands(workflow: str) -> list[str]:
    """Return the lines of shell of a workflow."""
    jobs: dict[str, Any] = yaml.safe_load(workflow)["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def unknown(lines: list[str]) -> set[str]:
    """Return what lines of shell ask of make, or run from a file, and what is not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w.-]+):(?!=)", makefile, re.MULTILINE))
    absent: set[str] = set()
    for line in lines:
        words = line.split()
        if words[:1] == ["make"]:
            absent |= {word for word in words[1:] if "=" not in word} - targets
        absent |= {word for word in words if word.endswith(".py") and not (ROOT / word).exists()}
    return absent


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_runs_is_there(path: Path):
    lines = commands(path.read_text(encoding="utf-8"))
    assert any(line.startswith("make ") for line in lines)
    assert unknown(lines) == set()


def test_a_target_that_is_not_there_is_seen():
    assert unknown(["make tests docs PYTHON=python", "python .github/adress.py X"]) == {
        "tests",
        ".github/adress.py",
    }


def test_the_pre_commit_linters_are_those_of_make_check():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = {hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    assert entries == {
        line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].split("\n") if line
    }


def test_a_release_s_links_lead_somewhere_without_the_repository(tmp_path: Path):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    address.write(tmp_path, "https://host/owner/name", "v0.1.0")
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) > 10
    assert {urlsplit(link).scheme for link in links} == {"https"}
    assert "(https://host/owner/name/raw/v0.1.0/docs/figures/overview.png)" in page
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.pop("urls")["Source"] == "https://host/owner/name"
    assert project == PROJECT


def test_a_link_that_leads_somewhere_by_itself_stays():
    page = "![a](b.png), [c](d.md#e), [f](https://g), [h](#i)"
    assert address.absolute(page, "https://x/y", "v1") == (
        "![a](https://x/y/raw/v1/b.png), [c](https://x/y/blob/v1/d.md#e), [f](https://g), [h](#i)"
    )


def test_a_project_file_without_the_place_for_addresses_is_refused():
    with pytest.raises(ValueError, match="once"):
        address.with_urls("[project]\n", "https://host/owner/name", "v0.1.0")
