"""StochasticNMF beside scikit-learn's MiniBatchNMF and NMF: time to an error, memory, cost a pass.

All start from one and the same NNDSVDa pair, on one thread, in this one process; the start is made
beforehand and on nobody's clock. Every repetition runs each contender once, in turn, and gives one
ratio; printed are the median of the ratios and their least and largest. The clock stands still
while an error is worked out, once a pass, from each contender's own W and H.
"""

from __future__ import annotations

import contextlib
import gc
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, MiniBatchNMF, _nmf
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from evidence.speed import kept
from evidence.speed.nmf_speed_numbers import CD, HALS, MINI, SGD, Memory, Result, text
from evidence.timing import Growth, measured_on
from ratewise.data import sets
from ratewise.nmf import StochasticNMF
from ratewise.progress import tracked


class Size(NamedTuple):
    """How thoroughly it is measured."""

    repeats: int = 5
    most: float = 20.0  #: seconds that a run may take
    quick: bool = False


SIZES = {"": Size(), "quick": Size(2, 2.0, True)}
#: How close to the best error "fully fitted" is.
CLOSE = 1.01


class Problem(NamedTuple):
    """A matrix, a number of components, and where all start."""

    name: str
    x: Any
    w: np.ndarray
    h: np.ndarray

    def error(self, w: np.ndarray, h: np.ndarray) -> float:
        """Return |X - W H|."""
        gram = h @ h.T
        square = float((self.x.data**2).sum() if sp.issparse(self.x) else np.vdot(self.x, self.x))
        square += float(np.vdot(w.T @ w, gram)) - 2.0 * float(np.vdot(self.x @ h.T, w))
        return max(0.0, square) ** 0.5


class Enough(Exception):
    """A run has reached what it was to reach, or its time is over."""


class Watch:
    """A clock that stands still while errors are worked out, and the errors at their times."""

    def __init__(self, problem: Problem, target: float, most: float) -> None:
        self._problem, self._target, self._most = problem, target, most
        self.points: list[tuple[float, float]] = []
        self._stopped = 0.0
        self._start = time.perf_counter()

    def look(self, factors: Callable[[], tuple[Any, Any]]) -> None:
        """Note the error of W and H as they are now; raise if that is enough."""
        now = time.perf_counter()
        taken = now - self._start - self._stopped
        self.points.append((taken, self._problem.error(*factors())))
        self._stopped += time.perf_counter() - now
        if self.points[-1][1] <= self._target or taken > self._most:
            raise Enough

    def seconds(self) -> float:
        """Return the time on the clock."""
        return time.perf_counter() - self._start - self._stopped

    def reached(self, target: float) -> float:
        """Return when an error was reached; inf where it was not."""
        return next((t for t, error in self.points if error <= target), float("inf"))


class Outcome(NamedTuple):
    """A run: its errors over time, and whether it stopped by itself."""

    watch: Watch
    seconds: float
    error: float
    passes: int


def contend(kind: str, problem: Problem, target: float, most: float, **settings: Any) -> Outcome:
    """Run one contender until it stops, reaches `target`, or has taken `most` seconds."""
    w, h = problem.w.copy(), problem.h.copy()
    gc.collect()
    watch = Watch(problem, target, most)
    with contextlib.suppress(Enough):
        _RUNNERS[kind](problem, w, h, watch, settings)
    seconds = watch.seconds()
    return Outcome(watch, seconds, watch.points[-1][1], len(watch.points))


def run_ours(solver: str) -> Callable[..., None]:
    """Return what runs StochasticNMF."""

    def runner(problem: Problem, w: Any, h: Any, watch: Watch, settings: dict[str, Any]) -> None:
        class Watched(StochasticNMF):
            def _after_step(self, codes: list[Any], parts: Any) -> None:
                steps = self._solver.steps
                if steps % len(codes) == 0:
                    watch.look(lambda: (np.concatenate(codes, 1).T, parts))

        Watched(h.shape[0], solver=solver, init="custom", **settings).fit(problem.x, W=w, H=h)

    return runner


def run_mini(problem: Problem, w: Any, h: Any, watch: Watch, settings: dict[str, Any]) -> None:
    """Run scikit-learn's MiniBatchNMF, which works on `w` in place."""

    class Watched(MiniBatchNMF):
        def _minibatch_convergence(self, *args: Any) -> bool:
            ends = super()._minibatch_convergence(*args)
            parts, n, step = args[2], args[4], args[5]
            if ends or (step + 1) % -(-n // self._batch_size) == 0:
                watch.look(lambda: (w, parts))
            return ends

    Watched(h.shape[0], init="custom", **settings).fit(problem.x, W=w, H=h)


def run_cd(problem: Problem, w: Any, h: Any, watch: Watch, settings: dict[str, Any]) -> None:
    """Run scikit-learn's NMF by coordinate descent."""
    original, calls = _nmf._update_coordinate_descent, [0]

    def watched(x: Any, moved: Any, other: Any, *rest: Any) -> float:
        violation = original(x, moved, other, *rest)
        calls[0] += 1
        if calls[0] % 2 == 0:  # W, then H
            watch.look(lambda: (other, moved.T))
        return violation

    _nmf._update_coordinate_descent = watched
    try:
        NMF(h.shape[0], init="custom", **settings).fit(problem.x, W=w, H=h)
    finally:
        _nmf._update_coordinate_descent = original


_RUNNERS = {HALS: run_ours("hals"), SGD: run_ours("sgd"), MINI: run_mini, CD: run_cd}
#: Settings that never stop by themselves.
_ENDLESS: dict[str, Any] = {"tol": 0.0, "max_iter": 100_000}


def contest(problem: Problem, repeats: int, most: float) -> tuple[Result, list[dict[str, Any]]]:
    """Return one set's times to both errors, and what default settings end with.

    Args:
        problem: the set.
        repeats: interleaved repetitions.
        most: seconds that a run may take; what does not get there has not got there.
    """
    kinds = (HALS, SGD, MINI, CD)
    ended = {kind: contend(kind, problem, 0.0, 1e9) for kind in kinds}
    long = {kind: contend(kind, problem, 0.0, most, **_ENDLESS) for kind in (HALS, SGD, CD)}
    best = min(error for o in (*ended.values(), *long.values()) for _, error in o.watch.points)
    own = CLOSE * min(error for o in (ended[CD], long[CD]) for _, error in o.watch.points)
    stop, close = ended[MINI].error, CLOSE * best
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        times.setdefault((MINI, "stop"), []).append(contend(MINI, problem, 0.0, 1e9).seconds)
        for kind, lowest in ((HALS, min(stop, close)), (SGD, stop), (CD, min(stop, close))):
            watch = contend(kind, problem, lowest, most, **_ENDLESS).watch
            for name, target in (("stop", stop), ("close", close), ("own", own)):
                times.setdefault((kind, name), []).append(watch.reached(target))
    result = Result(
        problem.name,
        problem.x.shape,
        int(problem.x.nnz if sp.issparse(problem.x) else problem.x.size),
        problem.h.shape[0],
        stop,
        best,
        {f"{kind} {error}": values for (kind, error), values in times.items()},
        most,
    )
    name = problem.name
    rows = [
        {
            "name": name,
            "kind": kind,
            "seconds": o.seconds,
            "error": o.error / best,
            "passes": o.passes,
        }
        for kind, o in ended.items()
    ]
    return result, rows


def peak(fit: Callable[[], Any]) -> int:
    """Return the most bytes that a fit has allocated at any time, what it was given apart."""
    gc.collect()
    tracemalloc.start()
    try:
        fit()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory(problem: Problem) -> Memory:
    """Return what two passes allocate, with the default initialisation's own start made before."""
    k, m = problem.h.shape
    peaks = {}
    for kind in (HALS, SGD, MINI):
        w, h = problem.w.copy(), problem.h.copy()
        settings: dict[str, Any] = {"init": "custom", "max_iter": 2, "tol": 0.0}
        if kind == MINI:
            model: Any = MiniBatchNMF(k, **settings)
        else:
            model = StochasticNMF(k, solver=kind, **settings)
        peaks[kind] = peak(partial(model.fit, problem.x, W=w, H=h))
        if kind == HALS:
            batches = model.n_steps_ // 2
    stored = (batches if batches > 1 else 0) * k * (k + m) * problem.h.itemsize
    return Memory(problem.name, peaks[HALS], peaks[SGD], peaks[MINI], stored, problem.w.nbytes)


def growth(quick: bool) -> list[Growth]:
    """Return seconds of three passes over sparse matrices of 1, 2, 4 and 8 times the numbers."""
    rng = np.random.default_rng(0)
    n, m, k = (2000, 1000, 10) if quick else (10_000, 2000, 20)
    whole = sp.random(8 * n, m, 0.01, format="csr", random_state=rng)
    found = []
    for solver in (HALS, SGD):
        sizes, seconds = [], []
        for times in (1, 2, 4, 8):
            x = whole[: times * n]
            w, h = rng.random((x.shape[0], k)), rng.random((k, m))
            settings: dict[str, Any] = {"tol": 0.0, "max_iter": 3, "batch_size": 1000}
            taken = []
            for _ in range(3):
                model = StochasticNMF(k, solver=solver, init="custom", **settings)
                start = time.perf_counter()
                model.fit(x, W=w, H=h)
                taken.append(time.perf_counter() - start)
            sizes.append(int(x.nnz))
            seconds.append(min(taken))
        found.append(Growth(solver, tuple(sizes), tuple(seconds)))
    return found


def dense(rank: int, quick: bool) -> np.ndarray:
    """Return a product of gamma-distributed factors, with a tenth of its mean as noise."""
    n, m = (4000, 200) if quick else (20_000, 500)
    rng = np.random.default_rng(rank)
    x = rng.gamma(0.5, 1.0, (n, rank)) @ rng.gamma(0.5, 1.0, (rank, m))
    return x + 0.1 * x.mean() * abs(rng.standard_normal((n, m)))


def tfidf(documents: list[str], quick: bool) -> Any:
    """Return tf-idf of the 5000 most frequent words that are no stop words."""
    words = 1000 if quick else 5000
    x = TfidfVectorizer(max_features=words, stop_words="english").fit_transform(documents)
    return x[np.diff(x.indptr) > 0].tocsr()


def problems(data: str | None, quick: bool) -> Iterator[Problem]:
    """Yield the sets, each with its start."""

    def text(whole: str, mark: str) -> list[str]:
        return [part for part in whole.split(mark) if len(part.split()) > 5]

    made: list[tuple[str, Callable[[], Any], int]] = [
        ("dense, rank 20", lambda: dense(20, quick), 20),
        ("dense, rank 40", lambda: dense(40, quick), 20),
        ("WikiText-2", lambda: tfidf(text(sets.wikitext(data), "\n"), quick), 20),
        ("polarity", lambda: tfidf(sets.polarity(data)[0], quick), 20),
        ("Shakespeare", lambda: tfidf(text(sets.shakespeare(data), "\n\n"), quick), 20),
        ("ORL faces", lambda: sets.faces(data).reshape(400, -1)[:, :: 8 if quick else 1] / 255, 40),
        ("digits", lambda: load_digits().data / 16, 16),
        ("ALL-AML, genes", lambda: sets.leukemia(data), 5),
        ("ALL-AML, patients", lambda: np.ascontiguousarray(sets.leukemia(data).T), 3),
    ]
    for name, build, k in made:
        x = build()
        w, h = _nmf._initialize_nmf(x, k, init="nndsvda", random_state=0)
        yield Problem(name, x, w, h)


def measure(size: Size, data: str | None) -> dict[str, Any]:
    """Return all that was measured, set by set."""
    results, defaults, memories = [], [], []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that passes end before a fit has converged is meant
        for problem in tracked(problems(data, size.quick), 9, "matrices"):
            result, rows = contest(problem, size.repeats, size.most)
            results.append(result)
            defaults += rows
            memories.append(memory(problem))
        grown = growth(size.quick)
    return {
        "results": results,
        "defaults": defaults,
        "memories": memories,
        "growth": grown,
        "repeats": size.repeats,
        "on": measured_on("numpy", "scikit-learn"),
    }


run = kept.command(measure, text)
