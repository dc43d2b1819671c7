"""`ratewise nmf fit`: read a matrix from a file, write its factors, a summary and a picture."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.errors import invalid
from ratewise.files import writing
from ratewise.nmf import scale
from ratewise.nmf.checks import InterruptedWarning
from ratewise.nmf.estimator import StochasticNMF
from ratewise.nmf.matrix_files import read_matrix
from ratewise.plotting import PALETTE, Line, Panel, save_panels

PICTURE = "convergence.png"


class Fitted(NamedTuple):
    """The result of `fit_file`."""

    model: StochasticNMF
    summary: str  #: in words, a few lines
    files: tuple[Path, ...]  #: W.npy, H.npy, summary.txt and, with matplotlib, a picture


def fit_file(
    data: str | Path, out: str | Path, components: int, *, seed: int = 0, **settings: Any
) -> Fitted:
    """Factorise the matrix in a file and write what was found; earlier files are replaced.

    Args:
        data: npy (memory-mapped), npz, csv or mtx, as `read_matrix` takes it.
        out: a folder, made if it does not exist: W.npy, H.npy, summary.txt, convergence.png.
        components: k.
        seed: random seed of the initialisation.
        **settings: of `StochasticNMF`.

    Raises:
        MissingData, CorruptData: the file is absent or unreadable.
        InvalidArgument, UnknownName: the matrix or a setting is none that can be used.
        OutOfMemory: it does not fit.
        CannotWrite: the disk is full, or the folder is read-only.
        KeyboardInterrupt: Ctrl-C; if a batch was finished, H.npy has its components.
    """
    folder = Path(out)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise invalid("--out", "a folder", str(there), "name another")
    x = read_matrix(data)
    model = StochasticNMF(components, random_state=seed, **settings)
    start = time.perf_counter()
    try:
        w = model.fit_transform(x)
    except KeyboardInterrupt:
        if hasattr(model, "components_"):
            path = _save(folder / "H.npy", model.components_)
            warnings.warn(f"{path} has the components so far", InterruptedWarning, stacklevel=2)
        raise
    seconds = time.perf_counter() - start
    written = [_save(folder / "W.npy", w), _save(folder / "H.npy", model.components_)]
    norm = scale.norm(x)
    summary = _summary(Path(data), x, norm, model, w, seconds)
    if _draw(model, norm, folder / PICTURE):
        written.append(folder / PICTURE)
    else:
        summary += f"\nno {PICTURE}: it needs matplotlib"
    writing.write(folder / "summary.txt", summary + "\n")
    return Fitted(model, summary, (*written, folder / "summary.txt"))


def _save(path: Path, array: Any) -> Path:
    with writing.whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)  # given a path, it would add a suffix
    return path


def _summary(data: Path, x: Any, norm: float, model: StochasticNMF, w: Any, seconds: float) -> str:
    n, m = x.shape
    stored = f"{x.nnz:,} stored" if sp.issparse(x) else "dense"
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


def _draw(model: StochasticNMF, norm: float, path: Path) -> bool:
    """Write the picture of the losses and rates; return False where matplotlib is missing."""
    penalised = bool(model.alpha_W or model.alpha_H not in ("same", 0))
    label = "sqrt(2 loss) / |X|, with penalty" if penalised else "|X - W H| / |X|"
    errors = (np.sqrt(2.0 * model.loss_history_) / norm).tolist()
    passes = range(1, model.n_iter_ + 1)
    title = f"{model.n_components_} components, solver {model.solver}"
    panels = [
        Panel(title, "pass over the data", label, [Line("error", PALETTE[1], passes, errors)])
    ]
    if rates := model.rate_history_.tolist():
        steps = range(1, len(rates) + 1)
        lines = [
            Line("rate", PALETTE[0], steps, rates),
            Line("the proven limit", PALETTE[11], steps, [2.0] * len(rates)),
        ]
        title = f"schedule {model.schedule}"
        panels.append(Panel(title, "step of the components", "rate, in multiples of 1 / L", lines))
    try:
        save_panels(panels, path, columns=1)
    except ModuleNotFoundError:
        return False
    return True
