"""`ratewise nmf fit`: a matrix in a file, factorised."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from ratewise.cli.options import stoppable


@stoppable("the same command starts again and replaces its files in {out}", "nmf")
def fit(
    data: Annotated[Path, typer.Argument(help="File with the matrix: .npy, .npz, .csv or .mtx.")],
    components: Annotated[int, typer.Option(help="Number of components.")],
    out: Annotated[
        Path, typer.Option(help="Folder that the factors, picture and summary are written to.")
    ] = Path("nmf"),
    solver: Annotated[str, typer.Option(help="Solver: hals or sgd.")] = "hals",
    schedule: Annotated[
        str,
        typer.Option(
            help="Schedule of the rate, for sgd: bound, constant, step, exponential, cosine, "
            "greedy or learned."
        ),
    ] = "greedy",
    policy: Annotated[
        str, typer.Option(help="Policy, for --schedule learned: a name or a weight file.")
    ] = "default",
    init: Annotated[
        str | None,
        typer.Option(
            help="Initialisation: nndsvd, nndsvda, nndsvdar or random.", show_default="auto"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in a mini-batch.", show_default="auto")
    ] = None,
    max_iter: Annotated[int, typer.Option(help="Most passes over the data.")] = 200,
    tol: Annotated[
        float, typer.Option(help="Stop once a pass lowers the loss by less than this fraction.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(help="Random seed of the initialisation.")] = 0,
) -> None:
    """Factorise a matrix, X ~ W H: write W.npy, H.npy, convergence.png and summary.txt."""
    from ratewise.nmf import fit_file

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: typer.echo(f"ratewise: {message}", err=True)
        done = fit_file(
            data,
            out,
            components,
            seed=seed,
            solver=solver,
            schedule=schedule,
            policy=policy,
            init=init,
            batch_size="auto" if batch_size is None else batch_size,
            max_iter=max_iter,
            tol=tol,
            verbose=True,
        )
    typer.echo(done.summary)
    typer.echo(f"written: {', '.join(str(path) for path in done.files)}")
