"""Ray: workers on any machine of a cluster, which prepare once; the driver stores what they make.

The only file that imports ray. Ray places the workers and moves the data; which items go together,
again or twice is decided in `ratewise.pool.pieces`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

from ratewise import __version__
from ratewise.errors import (
    MissingExtra,
    RatewiseError,
    RunFailed,
    Unreachable,
    VersionsDiffer,
    extra_named,
    invalid,
)
from ratewise.pool.pieces import TRIES, Piece, Pieces
from ratewise.pool.where import Where
from ratewise.pool.work import (
    FOR_ALL,
    Done,
    Item,
    Keep,
    Made,
    Ready,
    Work,
    Workers,
    unsendable,
    use_threads,
)

# Read when ray is imported. What a user has set holds.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
with extra_named("backend 'ray'", "ray"):
    import ray
    from ray import exceptions

#: An address answers within so many seconds, or is given up.
ANSWERS_SECONDS = 15.0
#: And a cluster that has no machine left for any worker gets one within so many.
GROWS_SECONDS = 60.0
#: A local Ray that is not ready in time is started again so often.
STARTS = 3
_DASHBOARD = "it needs pip install 'ray[default]' where Ray is started"
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
#: Addresses that this process has joined by.
_joined: set[str] = set()
#: How often the driver looks whether a worker is late, in seconds.
_LOOK_SECONDS = 1.0
#: The worker, its machine, or what it had made is gone.
_LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
)


@contextlib.contextmanager
def workers(work: Work[Item], where: Where, most: int) -> Iterator[Workers]:
    """Begin workers on a cluster, and end them with the block; see `ratewise.pool.workers`."""
    connect(where)
    count = min(_count(where), most)
    with contextlib.ExitStack() as stack:
        keep = stack.enter_context(work.keep()) if work.keep else None
        try:
            # put once: every machine fetches it, and its workers share the copy
            shared = ray.put(replace(work, keep=None))
        except TypeError as error:
            raise unsendable(where.jobs, error) from error
        found = _Cluster(work, keep, shared, where, count)
        stack.callback(found.end)
        yield found


def connect(where: Where) -> None:
    """Start a local Ray or join a cluster, unless this process has done so.

    Whatever was started ends with the process, or with ``ray.shutdown()``.

    Raises:
        InvalidArgument: the address is none, or this process has joined another cluster.
        MissingExtra: Ray's client is not installed, and the address asks for it.
        Unreachable: nobody answers at the address.
        VersionsDiffer: the cluster has another Python or Ray.
    """
    if not ray.is_initialized():
        address = where.address or os.environ.get("RAY_ADDRESS") or None
        if address not in (None, "auto", "local"):
            _answers(address)
        context = _join(address) if address else _start(where)
        if where.dashboard:
            page = context.dashboard_url
            shown = f"dashboard http://{page}" if page else f"no dashboard ({_DASHBOARD})"
            print(f"Ray: {_here()}, {shown}", file=sys.stderr, flush=True)
    elif where.address not in {None, "auto", *_joined} and where.address != _here():
        allowed = f"{_here()!r} or None, where this process has joined already"
        raise invalid("address", allowed, where.address, "or call ray.shutdown() first")


def _here() -> str:
    """Return the address of the cluster that this process belongs to."""
    return str(ray.get_runtime_context().gcs_address)


def _join(address: str) -> Any:
    try:
        context = ray.init(address, **_QUIET)
        _joined.add(address)
        return context
    except ValueError as error:
        if "ray[client]" not in str(error):
            raise
        reason = f"the address {address} needs Ray's client: pip install 'ray[client]'"
        raise MissingExtra(reason) from error
    except ConnectionError as error:
        raise _unreachable(address, str(error).splitlines()[0]) from error
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        fix = "start this command with the cluster's Python and Ray"
        raise VersionsDiffer(f"{' '.join(str(error).split())}: {fix}") from error


def _start(where: Where) -> Any:
    """Start a local Ray; on a busy machine it may not be ready within the time that it allows."""
    wanted = None if where.dashboard else False  # None is one where its packages are installed
    for left in reversed(range(STARTS)):
        try:
            # without an address Ray would join any cluster that somebody began on this machine
            return ray.init("local", include_dashboard=wanted, **_QUIET)
        except Exception as error:  # of no class of its own
            ray.shutdown()
            if "timed out" not in str(error):
                raise
            if not left:
                fix = "try again when the machine is less busy, or pass backend='processes'"
                raise Unreachable(f"a local Ray did not start ({error}): {fix}") from error


def _answers(address: str) -> None:
    """Raise unless somebody listens at the address: Ray itself would try for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        allowed = "'auto', HOST:PORT or ray://HOST:PORT"
        raise invalid("address", allowed, address, "`ray status` shows a cluster's")
    try:
        socket.create_connection((host, port), ANSWERS_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _unreachable(address: str | None, reason: str) -> Unreachable:
    fix = "start it there (ray start --head), or pass no address for a local Ray"
    return Unreachable(f"no Ray answers at {address} ({reason}): {fix}")


# -- what a worker needs, and how many there is room for ---------------------------------------

_OWN = {"cpus": "CPU", "gpus": "GPU", "memory": "memory"}


def _needed(where: Where) -> dict[str, float]:
    """Return what a worker needs, by Ray's names."""
    return {_OWN.get(name, name): amount for name, amount in where.resources.items() if amount}


def _options(where: Where) -> dict[str, Any]:
    """Return the same as keyword arguments of an actor."""
    needed = _needed(where)
    options: dict[str, Any] = {
        "num_cpus": needed.pop("CPU", 0),
        "num_gpus": needed.pop("GPU", 0),
        "max_restarts": 0,
    }
    if "memory" in needed:
        options["memory"] = int(needed.pop("memory"))
    return {**options, "resources": needed}


def room(nodes: Sequence[Mapping[str, float]], needed: Mapping[str, float]) -> int:
    """Return how many workers fit on machines.

    >>> room([{"CPU": 4, "GPU": 1}, {"CPU": 2}], {"CPU": 1, "GPU": 0.5})
    2
    """
    each = [
        min((node.get(name, 0) / amount for name, amount in needed.items()), default=1)
        for node in nodes
    ]
    return sum(int(fits + 1e-9) for fits in each)


def _room(where: Where) -> int:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return room(nodes, _needed(where))


def _count(where: Where) -> int:
    fits = _room(where)
    if (where.jobs or 1) > fits:
        needs = ", ".join(f"{name}={amount:g}" for name, amount in where.resources.items())
        allowed = f"at most {fits}, what the cluster holds at {needs} each"
        fix = "pass fewer, ask for less (--resources), or add machines to the cluster"
        raise invalid("jobs", allowed, where.jobs or 1, fix)
    return where.jobs or fits


# -- the workers -------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Return what has to be the same wherever runs are made."""
    major, minor, _ = platform.python_version_tuple()
    torch_version = metadata.version("torch").partition("+")[0]
    return {"ratewise": __version__, "torch": torch_version, "Python": f"{major}.{minor}"}


class _Worker:
    """A process of the cluster: an actor."""

    def __init__(self, work: Work[Any], threads: int) -> None:
        self._work, self._threads = work, threads

    def begin(self) -> tuple[str, dict[str, str], Exception | None]:
        """Prepare; return the machine, its versions, and what went wrong."""
        use_threads(self._threads)
        wrong: Exception | None = None
        try:
            self._ready = Ready(self._work, contextlib.ExitStack())
        except Exception as error:  # as a value: Ray would wrap it
            wrong = error
        return ray.util.get_node_ip_address(), versions(), wrong

    def make(self, items: list[Any]) -> tuple[list[tuple[Made, str]], float, Exception | None]:
        """Make items; return what came of each, the seconds, and what ends the work for all."""
        start, made = time.monotonic(), []
        for item in items:
            try:
                made.append(self._ready.tried(item))
            except FOR_ALL as error:
                return made, time.monotonic() - start, error
        return made, time.monotonic() - start, None


class _Cluster:
    """The workers of one work; one that is lost is begun anew, wherever Ray finds room."""

    def __init__(
        self, work: Work[Any], keep: Keep | None, shared: Any, where: Where, count: int
    ) -> None:
        self._work, self._keep, self._shared = work, keep, shared
        self._where, self._count = where, count
        threads = max(1, int(where.resources.get("cpus", 1)))
        options = _options(where)
        self._new = lambda: ray.remote(_Worker).options(**options).remote(shared, threads)
        self._beginning: dict[Any, Any] = {}  # what is waited for -> actor
        self._machines: dict[Any, str] = {}  # actor -> its machine
        self._working: dict[Any, tuple[Any, Piece]] = {}  # what is waited for -> actor, piece
        self._failed = 0  # workers in a row that ended before they were prepared
        self._alone_since: float | None = None
        for _ in range(count):
            self._begin()

    def _begin(self) -> None:
        actor = self._new()
        self._beginning[actor.begin.remote()] = actor

    def places(self) -> str:
        """Return how many work on which machine."""
        if not self._machines:
            return ", waiting for a worker"
        found = sorted(Counter(self._machines.values()).items())
        shown = ", ".join(f"{count} on {machine}" for machine, count in found[:4])
        return f", {shown}" + (f" and {len(found) - 4} more machines" if len(found) > 4 else "")

    def end(self) -> None:
        """Leave no worker behind."""
        for actor in [*self._machines, *self._beginning.values()]:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                ray.kill(actor)

    def each(self, items: Sequence[Item]) -> Iterator[Done]:
        """Yield every item as it is over and stored.

        Raises:
            InvalidArgument: an item cannot be sent.
            Unreachable: no machine is left.
            VersionsDiffer, RatewiseError: from a worker; it says on which machine.
        """
        place = self._work.place
        number_of = place and (lambda number: place(items[number]))
        pieces = Pieces(len(items), self._count, place=number_of)
        while not pieces.over:
            self._send(pieces, items)
            waited = [*self._working, *self._beginning]
            over, _ = ray.wait(waited, num_returns=1, timeout=_LOOK_SECONDS)
            if over:  # and whatever else is there: what is stored together costs less
                over, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
            self._check_room()
            done: list[Done] = []
            stop: Exception | None = None
            for reference in over:
                try:
                    if reference in self._beginning:
                        self._begun(reference)
                    else:
                        self._take(reference, pieces, items, done)
                except Exception as error:  # what the others have made is stored before
                    stop = error
            yield from (one for one in done if one.wrong)
            yield from self._stored([one for one in done if not one.wrong], items)
            if stop is not None:
                raise stop
        for actor, _ in self._working.values():  # late, and overtaken by a copy
            self._machines.pop(actor, None)
            ray.kill(actor)
            self._begin()
        self._working.clear()

    def _send(self, pieces: Pieces, items: Sequence[Item]) -> None:
        """Give every worker that waits its next piece."""
        busy = {actor for actor, _ in self._working.values()}
        able = list(self._machines)
        for rank, actor in enumerate(able):
            if actor in busy:
                continue
            piece = pieces.next(time.monotonic(), rank, len(able))
            if piece is not None:
                try:
                    reference = actor.make.remote([items[number] for number in piece.numbers])
                except TypeError as error:
                    raise unsendable(self._where.jobs, error) from error
                self._working[reference] = actor, piece

    def _begun(self, reference: Any) -> None:
        """Take in a worker that is prepared, or begin another for it."""
        actor = self._beginning.pop(reference)
        try:
            machine, theirs, wrong = ray.get(reference)
        except _LOST as error:
            if absent := _absent(error):
                raise absent from error
            self._failed += 1
            if self._failed >= TRIES * self._count:
                reason = str(error).strip().splitlines()[-1].strip()
                raise RunFailed(
                    f"workers on Ray end before they begin to work ({reason}): "
                    "`python -c 'import ratewise'` has to work on every machine"
                ) from error
            self._begin()
            return
        self._failed = 0
        _check_versions(machine, theirs)
        if wrong is not None:
            raise _on(machine, wrong)
        self._machines[actor] = machine

    def _take(
        self, reference: Any, pieces: Pieces, items: Sequence[Item], done: list[Done]
    ) -> None:
        """Add to `done` what a worker has made; raise what ends the work for all."""
        actor, piece = self._working.pop(reference)
        try:
            found, seconds, wrong = ray.get(reference)
        except _LOST:
            self._machines.pop(actor, None)
            with contextlib.suppress(Exception):
                ray.kill(actor)
            self._begin()
            why = f"its worker ended {TRIES} times: killed, crashed, out of memory"
            given_up = pieces.lost(piece)
            done += [Done(n, None, f"{self._work.name(items[n])}: {why}") for n in given_up]
            return
        results = dict(zip(piece.numbers, found, strict=False))  # up to what went wrong for all
        first = pieces.done(piece, seconds)
        done += [Done(number, *results[number]) for number in first if number in results]
        if wrong is not None:
            raise _on(self._machines[actor], wrong)

    def _stored(self, done: list[Done], items: Sequence[Item]) -> Iterator[Done]:
        """Store what has come together; should that fail, each alone, to know which it was."""
        if self._keep is None or not done:
            yield from done
            return
        try:
            self._keep([one.made for one in done])
        except FOR_ALL:
            raise
        except Exception as error:
            if len(done) > 1:
                for one in done:
                    yield from self._stored([one], items)
                return
            number = done[0].number
            wrong = f"{self._work.name(items[number])}: {type(error).__name__}: {error}"
            yield Done(number, None, wrong)
            return
        yield from (Done(one.number) for one in done)

    def _check_room(self) -> None:
        """Raise if the cluster has had no machine for any worker for a while."""
        if self._machines or _room(self._where):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > GROWS_SECONDS:
            raise Unreachable(
                f"the cluster has had no machine for a worker for {GROWS_SECONDS:g} s: "
                "add one, then repeat the command; what is finished is kept"
            )


#: How Ray tells that a worker could not read what it was sent, and on which machine.
_ABSENT = re.compile(r"ip=([^,)]+).*\n((?:ModuleNotFound|Import|Attribute)Error: .*)", re.DOTALL)


def _absent(error: Exception) -> VersionsDiffer | None:
    """Return the error for a machine that lacks a package, or a module of the user's."""
    found = _ABSENT.search(str(error)) if getattr(error, "actor_init_failed", False) else None
    if found is None:
        return None
    machine, reason = found.groups()
    fix = "install the same there as here, then repeat the command"
    return VersionsDiffer(f"{machine} lacks what a worker needs ({reason.strip()}): {fix}")


def _on(machine: str, error: Exception) -> Exception:
    """Return a worker's error, with its machine where it is one of ours."""
    return type(error)(f"on {machine}: {error}") if isinstance(error, RatewiseError) else error


def _check_versions(machine: str, theirs: Mapping[str, str]) -> None:
    ours = versions()
    odd = [
        f"{name} {theirs.get(name, 'none')} there, {version} here"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]
    if odd:
        fix = "install the same on every machine, then repeat the command"
        raise VersionsDiffer(f"{machine} has other versions ({'; '.join(odd)}): {fix}")
