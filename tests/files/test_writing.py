"""A file is there whole or not at all, whatever stops its writer."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ratewise
from ratewise.errors import CannotWrite, RatewiseError
from ratewise.files import writing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("as it was")
    return path


def test_a_file_is_replaced_and_its_folder_made(page: Path):
    writing.write(page, "ü")
    writing.write(page.parent / "new" / "bytes", b"\x00\xff")
    assert page.read_bytes() == "ü".encode()
    assert (page.parent / "new" / "bytes").read_bytes() == b"\x00\xff"
    assert sorted(os.listdir(page.parent)) == ["new", "page.md"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_named_and_leaves_everything_as_it_was(page: Path, monkeypatch, call: str):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CannotWrite, match=r"page\.md cannot be written \(No space left") as caught:
        writing.write(page, "new")
    assert isinstance(caught.value, RatewiseError)
    assert isinstance(caught.value, OSError)
    assert "\n" not in str(caught.value)
    assert page.read_text() == "as it was"
    assert os.listdir(page.parent) == ["page.md"]


def test_a_block_that_raises_leaves_everything_as_it_was(page: Path):
    def half() -> None:
        with writing.whole(page) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert page.read_text() == "as it was"
    assert os.listdir(page.parent) == ["page.md"]


KILLED = """
import os, signal, sys
from ratewise.files import writing
with writing.whole(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
AGAIN = "import sys; from ratewise.files import writing; writing.write(sys.argv[1], 'new')"


def python(code: str, *arguments: object) -> int:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, check=False).returncode


def test_what_a_killed_writer_left_goes_with_the_next_one_and_a_living_one_s_stays(page: Path):
    assert python(KILLED, page) < 0
    assert page.read_text() == "as it was"
    (left,) = set(os.listdir(page.parent)) - {"page.md"}
    assert left.startswith(writing.UNFINISHED)
    living = page.with_name(f"{writing.UNFINISHED}{os.getpid()}-1-page")
    living.write_text("half")
    assert python(AGAIN, page) == 0
    assert page.read_text() == "new"
    assert sorted(os.listdir(page.parent)) == [living.name, "page.md"]


def renamers(folder: Path) -> set[str]:
    """Return the modules that rename a file themselves: `x.replace(y)` has one argument."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            count = len(node.args) - of_os
            if node.func.attr in ("replace", "rename") and count == 1 and not node.keywords:
                found.add(path.relative_to(folder).as_posix())
    return found


def test_nothing_else_in_the_package_renames_what_it_wrote(tmp_path: Path):
    aside = {"files/writing.py", "runs/store.py"}  # the store moves what is damaged
    assert renamers(Path(ratewise.__file__).parent) == aside
    (tmp_path / "own.py").write_text(
        "part.replace(path)\nos.replace(part, path)\n'a'.replace(a, b)"
    )
    assert renamers(tmp_path) == {"own.py"}
