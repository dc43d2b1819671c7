"""What `ratewise nmf` does: a matrix from a file, its factors, a summary, a picture of the fit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.nmf.estimator import StochasticNMF
from ratewise.nmf.matrix_files import read_matrix

PICTURE = "convergence.png"


class Fitted(NamedTuple):
    """What `fit_file` made."""

    model: StochasticNMF
    summary: str  #: in words, a few lines
    files: tuple[Path, ...]  #: W.npy, H.npy, summary.txt and, with matplotlib, a picture


def fit_file(
    data: str | Path, out: str | Path, components: int, *, seed: int = 0, **settings: Any
) -> Fitted:
    """Factorise the matrix in a file and write what was found.

    Args:
        data: npy (memory-mapped), npz, csv or mtx, as `read_matrix` takes it.
        out: a folder, made if it does not exist: W.npy, H.npy, summary.txt, convergence.png.
        components: k.
        seed: of the initialisation.
        **settings: of `StochasticNMF`.

    Raises:
        MissingData, CorruptData: the file is absent or unreadable.
        InvalidArgument, UnknownName: the matrix or a setting is none that can be used.
        OutOfMemory: it does not fit.
    """
    x = read_matrix(data)
    model = StochasticNMF(components, random_state=seed, **settings)
    start = time.perf_counter()
    w = model.fit_transform(x)
    seconds = time.perf_counter() - start
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = [_saved(folder / "W.npy", w), _saved(folder / "H.npy", model.components_)]
    summary = _summary(Path(data), x, model, w, seconds)
    if _draw(model, x, folder / PICTURE):
        files.append(folder / PICTURE)
    else:
        summary += f"\nno {PICTURE}: it needs matplotlib"
    text = folder / "summary.txt"
    text.write_text(summary + "\n", encoding="utf-8")
    return Fitted(model, summary, (*files, text))


def _saved(path: Path, array: Any) -> Path:
    """Write an array whole or not at all."""
    temporary = path.with_name(f".tmp-{path.name}")
    np.save(temporary, array)
    temporary.replace(path)
    return path


def _norm(x: Any) -> float:
    """Return |X|, of a memory-mapped array a block at a time."""
    if sp.issparse(x):
        return float(np.sqrt((x.data.astype(np.float64) ** 2).sum()))
    total = 0.0
    for start in range(0, x.shape[0], 4096):
        block = np.asarray(x[start : start + 4096], dtype=np.float64)
        total += float(np.vdot(block, block))
    return float(np.sqrt(total))


def _summary(data: Path, x: Any, model: StochasticNMF, w: Any, seconds: float) -> str:
    n, m = x.shape
    stored = f"{x.nnz:,} stored" if sp.issparse(x) else "dense"
    norm = _norm(x)
    zeros = [float(np.mean(factor == 0)) for factor in (w, model.components_)]
    empty = int(np.sum(~(w.any(0) & model.components_.any(1))))
    lines = [
        f"{data.name}: {n:,} x {m:,}, {stored}; {model.n_components_} components",
        f"|X - W H| / |X| = {model.reconstruction_err_ / norm:.6g} "
        f"({model.reconstruction_err_:.6g} / {norm:.6g})",
        f"{model.n_iter_} passes, {model.n_steps_} mini-batches, {seconds:.2f} s, "
        f"solver {model.solver}",
        f"zeros: {zeros[0]:.1%} of W, {zeros[1]:.1%} of H; components without a part: {empty}",
    ]
    if len(model.rate_history_):
        rates = model.rate_history_
        lines.append(
            f"rate, in multiples of 1 / L: first {rates[0]:.3g}, last {rates[-1]:.3g}, "
            f"least {rates.min():.3g}, largest {rates.max():.3g}"
        )
    return "\n".join(lines)


def _draw(model: StochasticNMF, x: Any, path: Path) -> bool:
    """Write the picture of the losses and rates; return False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    rates = model.rate_history_
    figure = Figure(figsize=(8, 6 if len(rates) else 3.6), layout="constrained")
    axes = figure.subplots(2 if len(rates) else 1, 1, squeeze=False)[:, 0]
    passes = np.arange(1, model.n_iter_ + 1)
    errors = np.sqrt(2.0 * model.loss_history_) / _norm(x)
    axes[0].plot(passes, errors, color="#0072B2", marker="." if len(passes) < 40 else None)
    penalty = " and penalty" if model.alpha_W or model.alpha_H not in ("same", 0) else ""
    axes[0].set(xlabel="pass over the data", ylabel=f"relative error{penalty}")
    axes[0].set_title(f"{model.n_components_} components, solver {model.solver}")
    if len(rates):
        axes[1].plot(np.arange(1, len(rates) + 1), rates, color="#D55E00", lw=1.0)
        axes[1].axhline(2.0, color="#666666", lw=0.8, ls="--", label="the proven limit")
        axes[1].set(xlabel="step of the components", ylabel="rate, in multiples of 1 / L")
        axes[1].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.25)
    temporary = path.with_name(f".tmp-{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
    return True
