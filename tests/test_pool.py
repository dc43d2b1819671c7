"""Processes that work: one that dies is replaced, and costs nobody else anything."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from ratewise import pool
from ratewise.errors import CannotWrite, MissingData, RunFailed
from ratewise.pool import TRIES, drain, in_processes, in_this_process


class Item(NamedTuple):
    name: str
    deaths: int = 0  #: how many processes it ends
    error: Exception | None = None


def name(item: Item) -> str:
    return item.name


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    yield folder


def work(folder: Path, item: Item) -> None:
    tried = folder / f"{item.name}.tries"
    with tried.open("a") as file:
        file.write("x")
    if tried.stat().st_size <= item.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if item.error is not None:
        raise item.error
    (folder / f"{item.name}.done").write_text(str(os.getpid()))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that need not import torch first; two tests below start them as users do."""
    monkeypatch.setattr(pool, "get_context", lambda _: multiprocessing.get_context("fork"))


def tries(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in folder.glob("*.tries")}


def done(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.done")}


def test_a_worker_that_dies_is_replaced_and_its_item_begun_again(tmp_path: Path):
    items = [Item("a"), Item("b", deaths=1), Item("c"), Item("d")]
    found = in_processes(work, items, jobs=2, prepare=held, arguments=(tmp_path,), name=name)
    assert list(found) == [None] * 4
    assert done(tmp_path) == {"a", "b", "c", "d"}
    assert tries(tmp_path) == {"a": 1, "b": 2, "c": 1, "d": 1}


@pytest.mark.usefixtures("forked")
def test_what_ends_every_process_is_named_and_the_others_are_kept(tmp_path: Path):
    items = [Item("a", deaths=9), Item("b"), Item("c", error=ArithmeticError("odd")), Item("d")]
    found = in_processes(work, items, jobs=2, prepare=held, arguments=(tmp_path,), name=name)
    with pytest.raises(RunFailed, match="2 of 4 runs failed, the others are kept") as caught:
        drain(found, 4, "runs", show=False)
    assert f"  a: its process ended {TRIES} times" in str(caught.value)
    assert "  c: ArithmeticError: odd" in str(caught.value)
    assert done(tmp_path) == {"b", "d"}
    assert tries(tmp_path) == {"a": TRIES, "b": 1, "c": 1, "d": 1}


@contextlib.contextmanager
def refused(folder: Path) -> Iterator[Path]:
    raise MissingData(f"{folder} holds no data")
    yield folder


@contextlib.contextmanager
def ended(folder: Path) -> Iterator[Path]:
    os._exit(3)
    yield folder


@pytest.mark.usefixtures("forked")
def test_what_prepare_raises_comes_out_by_its_name(tmp_path: Path):
    found = in_processes(
        work, [Item("a"), Item("b")], jobs=2, prepare=refused, arguments=(tmp_path,), name=name
    )
    with pytest.raises(MissingData, match="holds no data"):
        list(found)
    assert not tries(tmp_path)


@pytest.mark.usefixtures("forked")
def test_processes_that_never_begin_are_given_up(tmp_path: Path):
    items = [Item(str(i)) for i in range(50)]
    found = in_processes(work, items, jobs=1, prepare=ended, arguments=(tmp_path,), name=name)
    with pytest.raises(RunFailed, match="ended before they began to work"):
        list(found)


FULL = Item("full", error=CannotWrite.of("x", "No space left on device"))


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("several", [False, True])
def test_a_full_disk_ends_the_work_and_is_no_item_s_failure(tmp_path: Path, several: bool):
    items = [Item("a"), FULL, *(Item(f"z{i}") for i in range(50))]
    if several:
        spread = partial(in_processes, jobs=1, prepare=held, arguments=(tmp_path,))
        found = spread(work, items, name=name)
    else:
        found = in_this_process(work, items, tmp_path, name=name)
    with pytest.raises(CannotWrite, match="No space left"):
        list(found)
    assert tries(tmp_path) == {"a": 1, "full": 1}


def endless(folder: Path, item: Item) -> None:
    (folder / f"{item.name}.done").write_text(str(os.getpid()))
    while item.name != "first":
        time.sleep(0.01)


def gone(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return False
    return True


def test_who_stops_waiting_ends_the_processes_at_once(tmp_path: Path):
    items = [Item("first"), Item("second"), *(Item(f"z{i}") for i in range(50))]
    found = in_processes(endless, items, jobs=2, prepare=held, arguments=(tmp_path,), name=name)
    assert next(found) is None
    found.close()  # as Ctrl-C does; with workers that never end this would not return
    begun = done(tmp_path)
    assert len(begun) <= 3
    assert all(gone(int((tmp_path / f"{one}.done").read_text())) for one in begun)
