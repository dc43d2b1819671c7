"""What is installed: the package with its policies, and nothing that lies beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="the wheel is built with what is here")

ROOT = Path(__file__).parents[1]


def built(folder: Path, where: str = '["src"]') -> set[str]:
    """Return the wheel's files, built offline from a copy: building writes beside the sources."""
    copy = folder / "repository"
    copy.mkdir()
    unneeded = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "evidence", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=unneeded)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'where = ["src"]' in project
    project = project.replace('where = ["src"]', f"where = {where}")
    (copy / "pyproject.toml").write_text(project, encoding="utf-8")
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def packages(files: set[str]) -> set[str]:
    """Return what can be imported once the files are installed."""
    tops = {name.split("/")[0] for name in files}
    return {top for top in tops if not top.endswith(".dist-info")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return built(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_nothing_else(files: set[str]) -> None:
    assert packages(files) == {"ratewise"}
    source = ROOT / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert {name for name in files if name.endswith(".py")} == modules


def test_packages_beside_the_sources_are_seen(tmp_path: Path) -> None:
    assert "evidence" in packages(built(tmp_path, '["src", "."]'))


def test_the_wheel_holds_what_is_no_code(files: set[str]) -> None:
    assert "ratewise/py.typed" in files
    policies = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "ratewise" / "policies").rglob("*")
        if path.suffix in (".safetensors", ".json")
    }
    assert policies
    assert policies <= files
