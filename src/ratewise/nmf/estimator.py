"""Non-negative matrix factorisation by mini-batches, with scikit-learn's interface."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from ratewise.errors import invalid
from ratewise.nmf import checks, hals, scale, schedules, solver, start
from ratewise.nmf.arrays import Array, Backend, is_tensor, joined, to_numpy
from ratewise.nmf.fitting import Fitting
from ratewise.nmf.rank import warn_of_rank
from ratewise.nmf.rows import automatic_size, cut, rows_of
from ratewise.nmf.statistics import Statistics
from ratewise.nmf.stopping import Stopping
from ratewise.progress import tracked

#: Rows whose codes `transform` finds at a time.
_TRANSFORMED = 8192


class StochasticNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Factorise a non-negative matrix, X ~ W H with W, H >= 0, a mini-batch of rows at a time.

    .. math:: \min_{W, H \ge 0} \tfrac12 \|X - W H\|^2 + \alpha_W m R(W) + \alpha_H n R(H),
              \qquad R(A) = \rho \|A\|_1 + \tfrac{1 - \rho}{2} \|A\|^2, \; \rho = l1\_ratio,

    in Frobenius norm, with X [n, m], W [n, k], H [k, m]. For each batch of rows its codes, the
    rows of W, are improved, the batch's part in W^T W and W^T X is replaced, and then H:

    - ``solver="hals"``: two sweeps of coordinate descent on either side. The faster one.
    - ``solver="sgd"``: four accelerated gradient steps on the codes, one gradient step on H at
      c / L with L the curvature of each component and c in (0, 1.9] from `schedule`: below the
      limit 2 / L of docs/theory/nmf-stability.md. Matrix products alone, for devices.

    With either, the loss never rises once every batch was seen. Where sums decay that holds of a
    step of H and the loss of what is remembered, and of no more. No batch's codes enter with a loss
    above that of codes of 0: where a start does not fit H as it has become, they begin anew.

    Memory beside X and W: k (k + m) numbers a batch for its statistics, ceil(n / batch_size)
    batches; above `max_memory` bytes one decaying sum instead; for an NNDSVD start 4 n (k + 10).
    Cost of a pass: O(k nnz + k^2 n), and O(k^2 m) a batch. X is never made dense.

    Args:
        n_components: k; "auto" or None takes the number of features.
        solver: "hals" or "sgd".
        init: "nndsvd", "nndsvda", "nndsvdar", "random", "custom" (pass W and H to `fit`), as in
            scikit-learn; None is "nndsvda" if k <= min(n, m), else "random".
        batch_size: rows; "auto" balances the cost of rows and components.
        sweeps: of HALS, on either side.
        schedule: of SGD: "bound" (c = 1), "constant", "step", "exponential", "cosine", "greedy",
            "learned", or an object with ``rate(observation) -> c``
            (`ratewise.nmf.schedules.Observation`), of which a fit takes a copy.
        rate: c that "constant" holds and "step", "exponential", "cosine" and "greedy" start from.
        total_steps: steps of H that a schedule of time spans; None is `max_iter` passes in `fit`.
            `partial_fit` does not know how many will come: such schedules need it there.
        policy: for ``schedule="learned"``: a name, a weight file, or an `NMFPolicy`. In runs much
            longer than those it was trained on it is a cosine, with a warning.
        tol: `fit` stops once a pass lowers the loss by less than this fraction; 0 makes
            `max_iter` passes. Also how far rows settle in `transform`.
        max_no_improvement: so many such passes in a row end it.
        max_iter: passes over X at most.
        transform_max_iter: sweeps of `transform` at most; None is `max_iter`.
        alpha_W, alpha_H, l1_ratio: the penalty above; alpha_H="same" is alpha_W.
        forget_factor: what a decaying sum keeps: in `fit` a pass, in `partial_fit` a call without
            an id. 0 remembers the batch alone: plain SGD.
        max_memory: bytes that the statistics of batches may take.
        device: torch device to work on, e.g. "cuda", and for all of X to lie on in `fit`; None is
            NumPy, or where a tensor X lies.
        random_state: random seed of the initialisation.
        verbose: True shows a progress bar.

    Attributes:
        components_: H, [k, m], NumPy, of X's float type; rows of norm 1 where sums decay and
            nothing is penalised.
        n_components_, n_features_in_: k and m.
        reconstruction_err_: |X - W H|. After `partial_fit`: of the batches with ids, each with
            its last codes; NaN where one came without, or a fit came before.
        n_iter_: passes of `fit`.
        n_steps_: mini-batches, in all.
        loss_history_: the loss after each pass of `fit`; where sums decay, of each batch when it
            was seen.
        rate_history_: c of each step of H; empty for HALS.
        interrupted_: whether Ctrl-C ended `fit`; what there is is of the last finished batch.

    A torch tensor may be X (dense); then W is one, too, on its device. `components_` is NumPy in
    any case. The NNDSVD initialisations run on the CPU. Data may be of any magnitude whose squares
    add up to a number: where the largest entry is beyond 1e+-77 (float32: 1e+-9), the fit is of a
    copy times a power of two, which is exact, and W, H and the losses are scaled back.

    >>> X = np.array([[1.0, 1], [2, 1], [3, 1.2], [4, 1], [5, 0.8], [6, 1]])
    >>> model = StochasticNMF(2, random_state=0, tol=1e-8, max_iter=500).fit(X)
    >>> bool(model.reconstruction_err_ < 1e-3)
    True

    Source: codes and statistics follow Mairal et al., JMLR 11 (2010), with sums that replace
    instead of decay; sweeps: `ratewise.nmf.hals`; the bound: `ratewise.nmf.stability`.
    """

    n_features_in_: int
    _solver: solver.Solver
    _scale = scale.Scale()  #: of what the solver has
    _codes: dict[Hashable, Any]  #: of batches with ids, as partial_fit left them

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        solver: str = "hals",
        init: str | None = None,
        batch_size: int | str = "auto",
        sweeps: int = 2,
        schedule: Any = "greedy",
        rate: float = 1.0,
        total_steps: int | None = None,
        policy: Any = "default",
        tol: float = 1e-4,
        max_no_improvement: int = 3,
        max_iter: int = 200,
        transform_max_iter: int | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        forget_factor: float = 0.7,
        max_memory: float = 1 << 30,
        device: Any = None,
        random_state: Any = None,
        verbose: int | bool = 0,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.init = init
        self.batch_size = batch_size
        self.sweeps = sweeps
        self.schedule = schedule
        self.rate = rate
        self.total_steps = total_steps
        self.policy = policy
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.max_iter = max_iter
        self.transform_max_iter = transform_max_iter
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.forget_factor = forget_factor
        self.max_memory = max_memory
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> StochasticNMF:
        """Fit the components; the arguments are those of `fit_transform`."""
        self._run(X, W, H)
        return self

    def fit_transform(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> Any:
        """Fit the components and return W, [n, k].

        Args:
            X: [n, m], >= 0: array, CSR or CSC matrix, or torch tensor. A memory-mapped float
                array is not copied: it is read a few times for the checks and the start, then
                batch by batch, once a pass.
            y: ignored.
            W, H: the start, [n, k] and [k, m], for ``init="custom"``; W may be left out.

        Raises:
            InvalidArgument, WrongType, UnknownName: bad data or settings: which, and the fix. Data
                that turn NaN while they are read leave the components of the last finished batch.
            OutOfMemory: it does not fit into memory.
            KeyboardInterrupt: Ctrl-C, after the attributes were set, with a warning.
        """
        return self._run(X, W, H)

    def _run(self, X: Any, W: Any, H: Any) -> Any:
        """Check everything, fit, and return W."""
        checks.check_settings(self)
        X = checks.check_data(self, X, reset=True, zeros=False)
        with checks.enough_memory(X.shape, start.asked(self, X)):
            return self._fit(X, W, H)

    def _fit(self, X: Any, W: Any, H: Any) -> Any:
        own = scale.of_data(X)
        X = scale.times(X, -own.data)
        W, H = start.factors(self, X, W, H, own)
        backend, size = Backend.of(X, self.device), self.batch_size
        size = automatic_size(X, len(H), self.solver) if size == "auto" else int(size)
        batches = list(cut(X, size, backend.device))
        checks.check_squares(sum(rows.square for rows in batches), own.data)
        self._scale = own
        steps = self._solver = self._new_solver(backend.array(H), self.max_iter * len(batches))
        codes = backend.codes(W, [rows.shape[0] for rows in batches])
        fitting = Fitting(steps, batches, codes, self.forget_factor, self.max_memory)
        watch = Stopping(self.tol, self.max_no_improvement, fitting.floor)
        self._codes, self.interrupted_ = {}, False
        try:
            passes = range(self.max_iter)
            for done in tracked(passes, self.max_iter, "passes", show=bool(self.verbose)):
                loss = fitting.one_pass(self._after_step)
                if done == 0:
                    warn_of_rank(batches, fitting.cross, backend)
                if watch.ends(loss):
                    break
            else:
                self._warn_not_converged()
        except KeyboardInterrupt:
            self.interrupted_ = True
            warnings.warn(
                f"interrupted in pass {len(fitting.losses) + 1}: components_ are those of batch "
                f"{steps.steps}, the last one that was finished",
                checks.InterruptedWarning,
                stacklevel=4,
            )
            raise
        finally:
            self._publish()
            self.n_iter_ = len(fitting.losses)
            self.loss_history_ = np.ldexp(np.array(fitting.losses), 2 * own.data)
            steps.statistics.forget_ids()
        self.reconstruction_err_ = math.ldexp(math.sqrt(fitting.distance()), own.data)
        return scale.times(joined(fitting.codes, X), own.codes)

    def _warn_not_converged(self) -> None:
        if self.tol > 0.0:
            warnings.warn(
                f"max_iter={self.max_iter} passes were made and the loss still falls by more than "
                f"tol={self.tol} a pass: pass a larger max_iter, or a larger tol",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _after_step(self, codes: list[Any], parts: Array) -> None:
        """Do nothing: subclasses may override this to watch `fit` after every batch.

        Args:
            codes: W_b^T of each batch, [k, b]; None where rows were not seen yet.
            parts: H, [k, m].
        """

    def _publish(self) -> None:
        """Set the attributes that every step updates, whether or not a fit was finished."""
        parts, statistics = self._solver.parts, self._solver.statistics
        self.components_ = scale.times(to_numpy(parts), self._scale.parts)
        self.n_components_ = len(parts)
        self.n_steps_ = self._solver.steps
        self.reconstruction_err_ = math.nan
        if statistics.exact and statistics.total is not None:
            square = 2.0 * statistics.total.loss(parts @ parts.T, parts)
            self.reconstruction_err_ = math.ldexp(math.sqrt(square), self._scale.data)

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        batch_id: Hashable | None = None,
        W: Any = None,
        H: Any = None,
    ) -> StochasticNMF:
        """Update the components with one mini-batch; X may be a slice of a memory-mapped array.

        With a `batch_id` the batch's part in the statistics is replaced when it comes again, and
        its codes go on from where they were: calls in the order of `fit`'s batches do what `fit`
        does. That keeps k (k + m + b) numbers an id. Without one what was seen decays by
        `forget_factor`, and memory stays as it is. After `fit` a batch joins what `fit` saw: of
        rows that were in it, too, it makes two.

        Args:
            X: [b, m], >= 0: array, CSR or CSC matrix, or torch tensor.
            y: ignored.
            batch_id: what tells the batch apart, e.g. its number.
            W, H: the start for ``init="custom"``: H at the first call, W, [b, k], at any.

        Raises:
            InvalidArgument, WrongType, UnknownName: bad data or settings: which, and the fix.
        """
        checks.check_settings(self)
        first = not hasattr(self, "_solver")
        X = checks.check_data(self, X, reset=first, zeros=not first)
        own = scale.of_data(X) if first else self._scale
        X = scale.times(X, -own.data)
        if first:
            with checks.enough_memory(X.shape, start.asked(self, X)):
                W, H = start.factors(self, X, W, H, own)
            backend = Backend.of(X, self.device)
            self._scale = own
            steps, known = self._new_solver(backend.array(H), None), {}
        else:
            steps, known = self._solver, self._codes
            backend = Backend.of(steps.parts)
            X = backend.data(X)
            if H is not None:
                raise invalid("H", "None after the first call", "a matrix", "make a new estimator")
            W = start.codes(self, X, W, len(steps.parts), own)
        rows = rows_of(X, backend.device)
        codes = known.get(batch_id) if batch_id is not None else None
        if codes is not None and codes.shape[1] != X.shape[0]:
            was = f"of {codes.shape[1]} rows, as batch_id={batch_id!r} had"
            raise invalid("X", was, X.shape[0], "pass the same rows, or another id")
        if W is not None:
            (codes,) = backend.codes(W, [rows.shape[0]])
        elif codes is not None:
            codes = copy.deepcopy(codes)  # a step writes into it, and may refuse the batch
        with checks.enough_memory(X.shape, len(steps.parts)):
            codes, _ = steps.step(rows, codes, batch_id, self.forget_factor)
        if not steps.statistics.keyed:
            known.clear()
        elif batch_id is not None:
            known[batch_id] = codes
        self._solver, self._codes = steps, known
        self._publish()
        return self

    @property
    def rate_history_(self) -> NDArray[np.float64]:
        """The multiple of 1 / L of each step of the components; empty for HALS."""
        check_is_fitted(self, "components_")
        return np.array(self._solver.rates, dtype=np.float64)

    def transform(self, X: Any) -> Any:
        """Return the codes of rows, [n, k], for the components as they are.

        Each row is solved by HALS until it has settled, whatever the solver, and whatever other
        rows come with it.

        Raises:
            InvalidArgument, WrongType: bad data: which, and the fix.
        """
        check_is_fitted(self, "components_")
        X = checks.check_data(self, X, reset=False, zeros=True)
        backend = Backend.of(X, self.device)
        own = scale.of_both(X, self.components_)
        X = scale.times(X, -own.data)
        parts = backend.array(scale.times(self.components_, -own.parts))
        penalty = self._penalty(own)
        gram = solver.with_diagonal(parts @ parts.T, penalty.codes_l2)
        most = self.max_iter if self.transform_max_iter is None else self.transform_max_iter
        with checks.enough_memory(X.shape, self.n_components_):
            codes = [
                hals.solve(gram, rows.project(parts) - penalty.codes_l1, self.tol, most)
                for rows in cut(X, _TRANSFORMED, backend.device)
            ]
            found = scale.times(joined(codes, X), own.codes)
        checks.check_codes(found)
        return found

    def inverse_transform(self, X: Any) -> Any:
        """Return W H, [n, m], of codes W, [n, k]: array, sparse matrix or tensor.

        Raises:
            InvalidArgument: it has another number of columns.
        """
        check_is_fitted(self, "components_")
        W: Any = X if is_tensor(X) else checks.sound(X) if sp.issparse(X) else np.asarray(X)
        if W.ndim != 2 or W.shape[1] != self.n_components_:
            shape = f"[n, {self.n_components_}]"
            raise invalid("X", shape, tuple(W.shape), "pass what transform returned")
        if is_tensor(W):
            parts = Backend.of(self.components_, W.device).array(self.components_)
            return W @ parts.to(W.dtype) if W.is_floating_point() else W.to(parts.dtype) @ parts
        return W @ self.components_

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _new_solver(self, parts: Array, total_steps: int | None) -> solver.Solver:
        total = total_steps if self.total_steps is None else int(self.total_steps)
        schedule = None
        if self.solver == "sgd" and isinstance(self.schedule, str):
            schedule = schedules.make(self.schedule, self.rate, total, self.policy)
        elif self.solver == "sgd":
            schedule = copy.deepcopy(self.schedule)
        return solver.Solver(
            parts,
            Statistics(self.max_memory),
            self._penalty(self._scale),
            int(self.sweeps),
            schedule,
            total,
        )

    def _penalty(self, own: scale.Scale) -> solver.Penalty:
        alpha_parts = self.alpha_W if self.alpha_H == "same" else self.alpha_H
        weights = map(float, (self.alpha_W, alpha_parts, self.l1_ratio))
        return solver.Penalty.of(self.n_features_in_, *weights).scaled(own)
