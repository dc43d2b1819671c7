"""A real Ray on this machine, two CPUs, begun once: nothing lost, nothing left, bad input named."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.compare import records
from tests.fuzz import kills as single
from tests.learning import test_stacks
from tests.pool import made_up

from ratewise.compare import optimizers, processes, schedules
from ratewise.compare.processes import RunSpec, TaskSource
from ratewise.errors import (
    InvalidArgument,
    MissingData,
    MissingExtra,
    RunFailed,
    Unreachable,
    VersionsDiffer,
)
from ratewise.pool import Done, Where, Work, drain, pieces, workers
from ratewise.pool.pieces import TRIES
from ratewise.runs import Store

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ratewise[ray]'")
from ray._private import state  # noqa: E402
from tests.pool import kills  # noqa: E402

from ratewise.pool import on_ray  # noqa: E402

ROOT = Path(__file__).parents[2]
ON_RAY = Where("ray", 2)


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """Begin Ray once for all tests of this file; its address is for drivers of their own."""
    by_value()
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        begin = partial(
            ray.init,
            "local",  # and not the cluster of another test
            num_cpus=2,
            num_gpus=1,  # which is a number to Ray: no such thing has to be there
            resources={"magnet": 1},
            object_store_memory=80_000_000,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        kills.begun(begin)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def by_value() -> None:
    """Send the tests' functions themselves: workers need not find the modules."""
    for module in (sys.modules[__name__], single, test_stacks, made_up, records):
        ray.cloudpickle.register_pickle_by_value(module)


class Item(NamedTuple):
    name: str
    deaths: int = 0  #: how many workers it ends
    halts: int = 0  #: how often it never ends
    error: Exception | None = None


def make(folder: Path, item: Item) -> tuple[str, int]:
    tried = folder / f"{item.name}.tries"
    with tried.open("a") as file:
        file.write("x")
    if tried.stat().st_size <= item.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    while tried.stat().st_size <= item.halts and not (folder / "over").exists():
        time.sleep(0.01)
    if item.error is not None:
        raise item.error
    return item.name, os.getpid()


@contextlib.contextmanager
def kept(into: list[list[str]]) -> Iterator[Callable[[Sequence[Any]], None]]:
    yield lambda made: into.append([name for name, _ in made])


class OfTheDriver(list[Any]):
    """What no worker could write to: it cannot be sent."""

    def __reduce__(self) -> Any:
        raise TypeError("it stays where it is")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    yield folder


def work(folder: Path, **changes: Any) -> Work[Item]:
    return Work(**{"make": make, "held": partial(held, folder), "name": name, **changes})


def name(item: Item) -> str:
    return item.name


def each(work: Work[Any], items: Sequence[Any], where: Where = ON_RAY) -> list[Done]:
    with workers(work, where, len(items)) as found:
        return list(found.each(items))


def tries(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in folder.glob("*.tries")}


def gone(process: int) -> bool:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, 0)
            time.sleep(0.02)
            continue
        return True
    return False


def test_a_worker_that_dies_costs_nobody_else_anything_and_the_driver_stores(tmp_path: Path):
    plain = [Item(f"z{i}") for i in range(40)]
    items = [Item("once", deaths=1), Item("always", deaths=99), *plain]
    items += [Item("odd", error=ArithmeticError("odd"))]
    batches: list[list[str]] = OfTheDriver()
    with workers(work(tmp_path, keep=partial(kept, batches)), ON_RAY, 43) as found:
        with pytest.raises(RunFailed, match="2 of 43 runs failed, the others are kept") as caught:
            drain(found.each(items), 43, "runs", show=False)
        assert re.fullmatch(r", [12] on [\d.]+", found.places())
    assert f"  always: its worker ended {TRIES} times" in str(caught.value)
    assert "  odd: ArithmeticError: odd" in str(caught.value)
    stored = [name for batch in batches for name in batch]
    assert sorted(stored) == sorted(["once", *(item.name for item in plain)])
    assert tries(tmp_path)["always"] == TRIES
    assert len(batches) < len(stored), "each was stored on its own"


def test_a_late_item_does_not_hold_the_end_and_no_worker_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pieces, "LATE_SECONDS", 0.0)
    try:
        found = each(work(tmp_path), [Item("a"), Item("b"), Item("late", halts=1), Item("c")])
    finally:
        (tmp_path / "over").touch()
    assert sorted(one.number for one in found) == [0, 1, 2, 3]
    assert tries(tmp_path)["late"] == 2
    assert all(gone(one.made[1]) for one in found)


def fails(folder: Path) -> contextlib.AbstractContextManager[Path]:
    raise MissingData(f"{folder} holds no data")


def test_a_worker_without_the_data_is_named_with_its_machine(tmp_path: Path):
    with pytest.raises(MissingData, match=r"on [\d.]+: .* holds no data"):
        each(work(tmp_path, held=partial(fails, tmp_path)), [Item("a")])


def test_what_was_made_before_the_data_were_gone_is_stored(tmp_path: Path):
    batches: list[list[str]] = []
    items = [Item("a"), Item("b"), Item("gone", error=MissingData("no such file")), Item("c")]
    with pytest.raises(MissingData, match=r"on [\d.]+: no such file"):
        each(work(tmp_path, keep=partial(kept, batches)), items, Where("ray", 1))
    assert [name for batch in batches for name in batch] == ["a", "b"]


def nothing(folder: Path, item: Item) -> None:
    """Make nothing."""


def test_a_module_that_a_machine_lacks_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = types.ModuleType("only_here")
    module.nothing = types.FunctionType(nothing.__code__, {}, "nothing")
    module.nothing.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    lacks = r"[\d.]+ lacks what a worker needs \(ModuleNotFoundError: No module named 'only_here'"
    with pytest.raises(VersionsDiffer, match=lacks):
        each(work(tmp_path, make=module.nothing), [Item("a")])


@contextlib.contextmanager
def never(folder: Path) -> Iterator[Path]:
    while True:
        time.sleep(0.01)
    yield folder


def test_a_cluster_that_has_no_machine_left_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(on_ray, "GROWS_SECONDS", 0.0)
    monkeypatch.setattr(on_ray, "_LOOK_SECONDS", 0.01)
    with workers(work(tmp_path, held=partial(never, tmp_path)), Where("ray", 1), 1) as found:
        monkeypatch.setattr(on_ray, "_room", lambda where: 0)
        with pytest.raises(Unreachable, match=r"no machine for a worker for 0 s.*is kept"):
            list(found.each([Item("a")]))


def given(folder: Path, item: Item) -> tuple[int, dict[str, float]]:
    """Return the threads that torch uses, and what Ray has given to the worker."""
    import torch

    return torch.get_num_threads(), ray.get_runtime_context().get_assigned_resources()


def test_a_worker_has_what_was_asked_for_and_as_many_threads(tmp_path: Path):
    asked = {"cpus": 2.0, "gpus": 0.5, "memory": 1e6, "magnet": 1.0}
    (one,) = each(work(tmp_path, make=given), [Item("a")], Where("ray", resources=asked))
    threads, found = one.made
    assert threads == 2
    assert found == {"CPU": 2.0, "GPU": 0.5, "memory": 1e6, "magnet": 1.0}


def test_other_versions_are_named_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(on_ray, "versions", lambda: {"torch": "1.0", "Python": "2.7"})
    with pytest.raises(VersionsDiffer, match=r"torch [\d.]+ there, 1\.0 here; Python"):
        each(work(tmp_path), [Item("a")])
    assert not tries(tmp_path)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where("ray", 3), "jobs must be at most 2, what the cluster holds at cpus=1 each, got 3"),
        (Where("ray", 2, resources={"cpus": 2}), "jobs must be at most 1, .*cpus=2"),
        (Where("ray", 3, resources={"cpus": 0.5, "gpus": 0.5}), "at most 2, .*gpus=0.5"),
        (Where("ray", resources={"gpus": 2.0}), "at most 0, .*gpus=2"),
        (Where("ray", 2, resources={"cpus": 0, "magnet": 1}), "at most 1"),
        (Where("ray", 2, resources={"memory": 1e15}), "at most 0"),
    ],
)
def test_more_than_the_cluster_holds_is_refused(tmp_path: Path, where: Where, words: str):
    with pytest.raises(InvalidArgument, match=words):
        each(work(tmp_path), [Item("a")], where)


def test_what_cannot_be_sent_is_refused(tmp_path: Path):
    lock = threading.Lock()
    with pytest.raises(InvalidArgument, match="cannot be sent to another process"):
        each(work(tmp_path, held=partial(held, lock)), [Item("a")])
    with pytest.raises(InvalidArgument, match="cannot be sent to another process"):
        each(work(tmp_path), [lock])


def test_addresses_that_do_not_answer_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        port = closed.getsockname()[1]
        for where in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(Unreachable, match=f"no Ray answers at {where} .*ray start --head"):
                on_ray.connect(Where("ray", address=where))
    for odd in ("nowhere", "host:port", "ray://"):
        with pytest.raises(InvalidArgument, match="address must be 'auto', HOST:PORT or ray://"):
            on_ray.connect(Where("ray", address=odd))


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    from ray import client_builder

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(client_builder, "get_ray_client_dependency_error", lambda: "no grpc")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        where = f"ray://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(MissingExtra, match=r"needs Ray's client: pip install 'ray\[client\]'"):
            on_ray.connect(Where("ray", address=where))


def test_a_second_cluster_is_refused_and_the_first_is_not(address: str):
    on_ray.connect(Where("ray", address=address))
    with pytest.raises(InvalidArgument, match="where this process has joined already"):
        on_ray.connect(Where("ray", address="127.0.0.1:1"))


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delitem(sys.modules, "ratewise.pool.on_ray")
    monkeypatch.delattr("ratewise.pool.on_ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ratewise\[ray\]'"):
        each(work(tmp_path), [Item("a")])


def test_a_comparison_has_the_same_numbers_here_and_on_ray(tmp_path: Path):
    task = TaskSource("tiny", own=single.task())
    adamw, schedule = optimizers.named("adamw"), schedules.named("greedy")
    specs = [RunSpec("tiny", adamw, schedule, 0.1, seed, "grid") for seed in range(6)]
    found = []
    for where in (Where("here"), Where("ray", 1)):
        store = Store(tmp_path / where.name)
        processes.execute(specs, {"tiny": task}, store, where=where, progress=False)
        found.append(single.kept(store.folder))
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_a_policy_is_the_same_to_the_bit_on_ray(tmp_path: Path):
    ours = test_stacks.learned(tmp_path / "here.safetensors")
    theirs = test_stacks.learned(tmp_path / "ray.safetensors", backend=ON_RAY)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


#: A driver of its own.
DRIVER = """
import sys
from pathlib import Path
import ray
from tests.compare import records
from tests.pool import made_up
from ratewise.pool import Where
for module in (made_up, records):
    ray.cloudpickle.register_pickle_by_value(module)
made_up.go_on(Path("out"), int(sys.argv[1]), Where("ray", 1, sys.argv[2]))
"""
RUNS = 60
#: And one that begins a Ray of its own; two works use it.
ALONE = """
from contextlib import nullcontext
from functools import partial
from ratewise.pool import Where, Work, on_ray, workers
on_ray.STARTS = 20  # on a busy machine
for _ in range(2):
    with workers(Work(pow, partial(nullcontext, 2)), Where("ray", 1, dashboard=True), 1) as found:
        assert [one.made for one in found.each([3])] == [8]
"""


def python(*line: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that finds what this one does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, *line], cwd=folder, env=environment, stderr=subprocess.PIPE
    )


def test_a_ray_of_its_own_is_begun_and_says_once_where_it_is(tmp_path: Path, address: str):
    process = python("-c", ALONE, folder=tmp_path)
    said = process.communicate()[1].decode()
    assert process.returncode == 0, said
    (where,) = re.findall(r"^Ray: ([\d.]+:\d+), .*dashboard", said, re.MULTILINE)
    assert where != address


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_stopped_leaves_no_worker_and_repeats_no_finished_run(
    tmp_path: Path, address: str, way: signal.Signals
):
    before = actors()
    process = python("-c", DRIVER, str(RUNS), address, folder=tmp_path)
    out, deadline = tmp_path / "out", time.monotonic() + 240
    while not files(out) and time.monotonic() < deadline:
        time.sleep(0.005)
        assert process.poll() is None, process.communicate()[1].decode()
    busy = actors() - before
    process.send_signal(way)
    process.communicate()
    survivors, finished = files(out), Store(out).run_ids()
    assert 0 < len(finished) < RUNS, "stopped too early or too late to show anything"
    assert len(busy) == 1
    assert all(gone(worker) for worker in busy)
    made_up.go_on(out, RUNS, Where("ray", 1))
    assert survivors.items() <= files(out).items(), "a finished run was lost or repeated"
    assert made_up.stored(out) == len(Store(out).run_ids()) == RUNS


def files(folder: Path) -> dict[str, int]:
    """Return the files of runs, with the moments at which they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*.parquet")}


def actors() -> set[int]:
    """Return the processes of Ray's actors."""
    found = state.actors().values()
    return {actor["Pid"] for actor in found if actor["State"] == "ALIVE"}
