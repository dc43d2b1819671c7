"""Processes that work: one that dies is replaced, and costs nobody else anything."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ratewise.errors import CannotWrite, InvalidArgument, MissingData, RunFailed
from ratewise.pool import Done, Where, Work, drain, pieces, processes, workers
from ratewise.pool.pieces import TRIES
from ratewise.pool.work import Keep


class Item(NamedTuple):
    name: str
    deaths: int = 0  #: how many processes it ends
    error: Exception | None = None


def name(item: Item) -> str:
    return item.name


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    yield folder


def make(folder: Path, item: Item) -> str:
    tried = folder / f"{item.name}.tries"
    with tried.open("a") as file:
        file.write("x")
    if tried.stat().st_size <= item.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if item.error is not None:
        raise item.error
    return item.name


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[Keep]:
    def keep(made: Sequence[str]) -> None:
        for name in made:
            (folder / f"{name}.done").write_text(str(os.getpid()))

    yield keep


def work(folder: Path, **changes: Any) -> Work[Item]:
    usual = {"make": make, "held": partial(held, folder), "keep": partial(kept, folder)}
    return Work(**{**usual, "name": name, **changes})


def each(work: Work[Item], items: list[Item], jobs: int = 2) -> Iterator[Done]:
    with workers(work, Where("processes", jobs), len(items)) as found:
        yield from found.each(items)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that need not import torch first; two tests below start them as users do."""
    monkeypatch.setattr(processes, "get_context", lambda _: multiprocessing.get_context("fork"))


def tries(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in folder.glob("*.tries")}


def done(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.done")}


def test_a_worker_that_dies_is_replaced_and_its_item_begun_again(tmp_path: Path):
    items = [Item("a"), Item("b", deaths=1), Item("c"), Item("d")]
    assert sorted(each(work(tmp_path), items)) == [Done(number) for number in range(4)]
    assert done(tmp_path) == {"a", "b", "c", "d"}
    assert tries(tmp_path) == {"a": 1, "b": 2, "c": 1, "d": 1}


@pytest.mark.usefixtures("forked")
def test_what_ends_every_process_is_named_and_the_others_are_kept(tmp_path: Path):
    items = [Item("a", deaths=9), Item("b"), Item("c", error=ArithmeticError("odd")), Item("d")]
    found = each(work(tmp_path), items)
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
    found = each(work(tmp_path, held=partial(refused, tmp_path)), [Item("a"), Item("b")])
    with pytest.raises(MissingData, match="holds no data"):
        list(found)
    assert not tries(tmp_path)


@pytest.mark.usefixtures("forked")
def test_processes_that_never_begin_are_given_up(tmp_path: Path):
    items = [Item(str(i)) for i in range(50)]
    found = each(work(tmp_path, held=partial(ended, tmp_path)), items)
    with pytest.raises(RunFailed, match="ended before they began to work"):
        list(found)


FULL = Item("full", error=CannotWrite.of("x", "No space left on device"))


@pytest.mark.usefixtures("forked")
def test_a_full_disk_ends_the_work_and_is_no_item_s_failure(tmp_path: Path):
    items = [Item("a"), FULL, *(Item(f"z{i}") for i in range(50))]
    with pytest.raises(CannotWrite, match="No space left"):
        list(each(work(tmp_path), items, jobs=1))  # with more, others go on until it is heard of
    assert tries(tmp_path) == {"a": 1, "full": 1}


def endless(folder: Path, item: Item) -> None:
    (folder / f"{item.name}.done").write_text(str(os.getpid()))
    while item.name != "first":
        time.sleep(0.01)


def patient(folder: Path, item: Item) -> None:
    make(folder, item)
    while item.name == "long" and not (folder / "over").exists():
        time.sleep(0.01)


@pytest.mark.usefixtures("forked")
def test_the_last_one_is_not_begun_again_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pieces, "LATE_SECONDS", 0.0)
    found = each(work(tmp_path, make=patient, keep=None), [Item("long"), Item("a"), Item("b")])
    assert sorted([next(found), next(found)]) == [Done(1), Done(2)]
    (tmp_path / "over").touch()
    assert list(found) == [Done(0)]
    assert tries(tmp_path) == {"long": 1, "a": 1, "b": 1}


def gone(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return False
    return True


def test_who_stops_waiting_ends_the_processes_at_once(tmp_path: Path):
    items = [Item("first"), Item("second"), *(Item(f"z{i}") for i in range(50))]
    found = each(work(tmp_path, make=endless, keep=None), items)
    assert next(found) == Done(0)
    found.close()  # as Ctrl-C does; with workers that never end this would not return
    begun = done(tmp_path)
    assert len(begun) <= 3
    assert all(gone(int((tmp_path / f"{one}.done").read_text())) for one in begun)


def test_what_is_not_kept_comes_back_and_a_place_has_one_worker(tmp_path: Path):
    items = [Item(str(i)) for i in range(8)]
    found = list(each(work(tmp_path, make=process, keep=None, place=parity), items))
    made = {one.number: one.made for one in found}
    assert len(made) == 8
    assert len({made[number] for number in (0, 2, 4, 6)}) == 1
    assert made[0] != made[1]


def process(folder: Path, item: Item) -> int:
    return os.getpid()


def parity(item: Item) -> int:
    return int(item.name) % 2


def test_what_cannot_be_sent_is_refused_before_anything_begins(tmp_path: Path):
    for odd in (work(tmp_path, make=lambda folder, item: None), work(tmp_path)):
        items = [Item("a", error=Local()), Item("b")]
        with pytest.raises(InvalidArgument, match="define its functions at the top of a module"):
            list(each(odd, items))
    assert not tries(tmp_path)


class Local(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("it holds a lock")
