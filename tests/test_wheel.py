"""What is released: the package with its policies, and nothing that lies beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="the wheel is built with what is here")

ROOT = Path(__file__).parents[1]


PAPERS = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md")


def built(folder: Path, where: str = '["src"]') -> Path:
    """Build wheel and source distribution offline, from a copy: building writes beside sources."""
    copy = folder / "repository"
    copy.mkdir()
    unneeded = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "evidence", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=unneeded)
    for name in (*PAPERS, "MANIFEST.in", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'where = ["src"]' in project
    project = project.replace('where = ["src"]', f"where = {where}")
    (copy / "pyproject.toml").write_text(project, encoding="utf-8")
    build = "from setuptools import build_meta as b; b.build_wheel('..'); b.build_sdist('..')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def names(wheel: Path) -> set[str]:
    """Return the wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def information(wheel: Path, name: str) -> str:
    """Return one of the files that say what the wheel is."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (x for x in archive.namelist() if x.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def packages(files: set[str]) -> set[str]:
    """Return what can be imported once the files are installed."""
    tops = {name.split("/")[0] for name in files}
    return {top for top in tops if not top.endswith(".dist-info")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def files(wheel: Path) -> set[str]:
    return names(wheel)


def test_the_wheel_holds_the_package_and_nothing_else(files: set[str]) -> None:
    assert packages(files) == {"ratewise"}
    source = ROOT / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert {name for name in files if name.endswith(".py")} == modules


def test_packages_beside_the_sources_are_seen(tmp_path: Path) -> None:
    assert "evidence" in packages(names(built(tmp_path, '["src", "."]')))


def test_the_wheel_holds_what_is_no_code(files: set[str]) -> None:
    assert "ratewise/py.typed" in files
    policies = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "ratewise" / "policies").rglob("*")
        if path.suffix in (".safetensors", ".json")
    }
    assert policies
    assert policies <= files


def test_it_needs_the_core_alone_and_offers_the_rest(wheel: Path) -> None:
    said = Parser().parsestr(information(wheel, "METADATA"))
    needs = [line for line in said.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[<>=!~; ]", line)[0] for line in needs} == {"torch", "numpy", "safetensors"}
    assert {"cli", "compare", "nmf"} <= set(said.get_all("Provides-Extra", []))
    assert said["Version"] == "0.1.0"
    assert "ratewise = ratewise.__main__:main" in information(wheel, "entry_points.txt")


def test_the_source_distribution_holds_the_package_and_its_papers(wheel: Path) -> None:
    (path,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in held} - {""}
    made = {"PKG-INFO", "setup.cfg"}
    assert tops - made == {*PAPERS, "MANIFEST.in", "constraints.txt", "pyproject.toml", "src"}


def test_both_pass_the_check_of_the_index(wheel: Path) -> None:
    pytest.importorskip("twine", reason="it checks what is uploaded")
    paths = [*wheel.parent.glob("*.whl"), *wheel.parent.glob("*.tar.gz")]
    line = [sys.executable, "-m", "twine", "check", "--strict", *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_unpacked_in_an_empty_folder_it_is_what_is_imported(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import ratewise; print(ratewise.__file__); ratewise.GreedyLR, ratewise.LearnedLR"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "site" / "ratewise" / "__init__.py")


def test_the_version_is_dated_in_the_changelog_and_in_the_citation(wheel: Path) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (version, date) = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)[0]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {version}\ndate-released: {date}\n" in citation
    assert Parser().parsestr(information(wheel, "METADATA"))["Version"] == version
