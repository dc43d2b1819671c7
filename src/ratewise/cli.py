"""The command line: `ratewise compare | forecast | learn | nmf | report | runs`."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from ratewise import __version__
from ratewise.errors import RatewiseError, extra_named, invalid

if TYPE_CHECKING:
    from ratewise.pool import Where

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Learning-rate schedules that react to training, and comparisons a sceptic would trust.",
)
nmf = typer.Typer(no_args_is_help=True, help="Non-negative matrix factorisation.")
app.add_typer(nmf, name="nmf")
runs = typer.Typer(no_args_is_help=True, help="The store of past trainings.")
app.add_typer(runs, name="runs")

Command = TypeVar("Command", bound=Callable[..., Any])
_Data = Annotated[
    str | None, typer.Option(help="Folder with the data sets.", envvar="RATEWISE_DATA")
]
_Jobs = Annotated[
    int | None,
    typer.Option(help="How many work at once.", show_default="1; on Ray as many as there is room"),
]
_Backend = Annotated[
    str | None,
    typer.Option(
        help="Where they work: here, processes or ray.",
        show_default="here; processes with --jobs above 1",
    ),
]
_Address = Annotated[
    str | None,
    typer.Option(
        help="Cluster that Ray runs on: auto, HOST:6379 or ray://HOST:10001.",
        show_default="a local Ray",
    ),
]
_Resources = Annotated[
    str | None,
    typer.Option(
        help="What each worker on Ray needs: cpus=2,gpus=0.25,memory=2e9,NAME=1.",
        show_default="cpus=1",
    ),
]
_Dashboard = Annotated[bool, typer.Option("--dashboard", help="Print Ray's address.")]


def _stoppable(how: str, extra: str = "compare") -> Callable[[Command], Command]:
    """Make a command say how to continue when Ctrl-C stops it, and exit with status 130.

    Args:
        how: the rest of the sentence; the command's arguments stand in braces.
        extra: of the package, which has what the command needs.
    """

    def wrap(command: Command) -> Command:
        @functools.wraps(command)
        def stoppable(**arguments: Any) -> Any:
            try:
                with extra_named("this command", extra):
                    return command(**arguments)
            except KeyboardInterrupt:
                typer.echo(f"ratewise: stopped; {how.format(**arguments)}", err=True)
                raise typer.Exit(130) from None

        return cast(Command, stoppable)

    return wrap


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@_stoppable("finished runs are kept in {out}; the same command continues with the rest")
def compare(
    tasks: Annotated[
        str, typer.Option(help="Tasks, separated by commas; --list shows all names.")
    ] = ("digits-mlp,digits-cnn,diabetes-mlp,pydoc-gru"),
    optimizers: Annotated[str, typer.Option(help="Optimizers, separated by commas.")] = "adamw",
    schedules: Annotated[str, typer.Option(help="Schedules, separated by commas.")] = (
        "greedy,greedy-cosine,cosine,linear,constant"
    ),
    seeds: Annotated[int, typer.Option(help="Runs that judge each method, at its tuned rate.")] = 5,
    tuning_seeds: Annotated[
        int, typer.Option(help="Runs at each rate of the grid, for tuning.")
    ] = 2,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Base rates to try (0.001,0.01), or how many, spread over three decades (7)."
        ),
    ] = None,
    tuner: Annotated[
        str, typer.Option(help="How rates are tuned: grid, or advisor, one run after the other.")
    ] = "grid",
    steps: Annotated[int | None, typer.Option(help="Optimizer steps in every run.")] = None,
    preset: Annotated[str, typer.Option(help="Size of the tasks: small or full.")] = "small",
    data: _Data = None,
    out: Annotated[
        Path, typer.Option(help="Folder that the runs and the report are written to.")
    ] = Path("report"),
    jobs: _Jobs = None,
    backend: _Backend = None,
    address: _Address = None,
    resources: _Resources = None,
    dashboard: _Dashboard = False,
    list_names: Annotated[bool, typer.Option("--list", help="Show all names and exit.")] = False,
) -> None:
    """Train real models under several schedules, tune each one, and report which did best."""
    if list_names:
        _list()
        return
    from ratewise.compare import run

    run(
        _split(tasks),
        optimizers=_split(optimizers),
        schedules=_split(schedules),
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        rates=_rates(rates),
        tuner=tuner,
        out=out,
        backend=_where(backend, jobs, address, resources, dashboard),
        preset=preset,
        data=data,
        steps=steps,
    )


@app.command()
@_stoppable("finished runs are kept in {store}; the same command continues")
def tune(
    task: Annotated[str, typer.Option(help="Task: a name, or own.py:task for one of your own.")],
    store: Annotated[
        Path, typer.Option(help="Folder of runs, past tasks among them; these are added.")
    ] = Path("tuning"),
    budget: Annotated[int, typer.Option(help="The most runs.")] = 4,
    optimizer: Annotated[str, typer.Option(help="Optimizer.")] = "adamw",
    schedule: Annotated[
        str | None,
        typer.Option(help="Schedule, whose rate is tuned.", show_default="UpdateRatioLR's ratio"),
    ] = None,
    min_gain: Annotated[
        float, typer.Option(help="Stop where a run is expected to gain a smaller share of the loss")
    ] = 0.005,
    pilot_steps: Annotated[
        int | None, typer.Option(help="Steps of shorter runs that come first.")
    ] = None,
    family: Annotated[str, typer.Option(help="Family of models: transformer.")] = "",
    steps: Annotated[int | None, typer.Option(help="Optimizer steps in every run.")] = None,
    preset: Annotated[str, typer.Option(help="Size of a named task: small or full.")] = "small",
    data: _Data = None,
) -> None:
    """Tune a schedule on a task with a few runs, beginning where past tasks had their best."""
    from ratewise.compare import advised

    done = advised.tune(
        task,
        store=store,
        budget=budget,
        optimizer=optimizer,
        schedule=advised.DEFAULT if schedule is None else schedule,
        min_gain=min_gain,
        pilot_steps=pilot_steps,
        family=family,
        steps=steps,
        preset=preset,
        data=data,
    )
    typer.echo(done.summary)


@app.command()
@_stoppable("no run was changed; the same command writes the report again")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison: its --out.")],
) -> None:
    """Write the report of a comparison again from its stored runs, without training."""
    if not folder.is_dir():
        raise invalid("FOLDER", "a folder that exists", str(folder), "see --out of compare")
    from ratewise.compare import report as reports
    from ratewise.runs import Store

    typer.echo(reports.write(Store(folder)).table)


@app.command()
@_stoppable("progress is kept beside {out}; the same command continues", "learn")
def learn(
    tasks: Annotated[
        str | None,
        typer.Option(help="Kinds of training tasks, separated by commas; --list shows all."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="How many decisions to learn from, over all trainings.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    out: Annotated[Path, typer.Option(help="Weight file to write.")] = Path("policy.safetensors"),
    data: _Data = None,
    jobs: _Jobs = None,
    backend: _Backend = None,
    address: _Address = None,
    resources: _Resources = None,
    dashboard: _Dashboard = False,
    list_names: Annotated[
        bool, typer.Option("--list", help="Show all kinds of tasks and exit.")
    ] = False,
) -> None:
    """Learn a policy for LearnedLR, or for StochasticNMF (--tasks nmf); stop and resume at will."""
    from ratewise.learning import tasks as known
    from ratewise.learning.ppo import learn as run

    if list_names:
        typer.echo("\n".join([*known.KINDS, "nmf"]))
        return
    if out.suffix != ".safetensors":
        raise invalid("--out", "a file that ends in .safetensors", str(out), "rename it")
    kinds = list(known.KINDS) if tasks is None else _split(tasks)
    where = _where(backend, jobs, address, resources, dashboard)
    chosen = {"seed": seed} if steps is None else {"seed": seed, "decisions": steps}
    if kinds == ["nmf"]:
        from ratewise.learning import factorisations

        run(
            factorisations.FactorisationRecipe(factorisations.FactorisationSettings(**chosen)),
            out,
            about={"tasks": kinds},
            backend=where,
        )
        use = f'ratewise.StochasticNMF(..., solver="sgd", schedule="learned", policy={str(out)!r})'
    else:
        from ratewise.learning import update_ratio_env

        recipe = update_ratio_env.UpdateRatioRecipe(
            known.Drawn(kinds, folder=data), update_ratio_env.UpdateRatioSettings(**chosen)
        )
        run(recipe, out, about={"tasks": kinds}, backend=where)
        use = f"ratewise.LearnedLR(optimizer, policy={str(out)!r}, total_steps=...)"
    typer.echo(f"policy: {out}; scores of each round: {out.stem}.curve.json beside it")
    typer.echo(f"use it: {use}")


@nmf.callback()
def _nmf() -> None:
    """Keep `fit` a subcommand, although it is the only one."""


@nmf.command()
@_stoppable("the same command starts again and replaces its files in {out}", "nmf")
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


@app.command()
@_stoppable("nothing was written; the same command starts again", "curves")
def forecast(
    store: Annotated[Path, typer.Argument(help="Store of past runs, or their logs.")],
    schedule: Annotated[str, typer.Option(help="Schedule: cosine, linear, constant, wsd, ...")],
    peak_lr: Annotated[float, typer.Option(help="Its highest rate.")],
    total_steps: Annotated[int, typer.Option(help="Its length in steps.")],
    warmup_steps: Annotated[int, typer.Option(help="Steps of its linear rise.")] = 0,
    final_share: Annotated[
        float, typer.Option(help="Share of the highest rate that it ends at.")
    ] = 0.0,
    cooldown: Annotated[
        float | None, typer.Option(help="Share of the steps in which wsd falls.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task whose runs are taken.")] = None,
    law: Annotated[str, typer.Option(help="Law: functional or multi-power.")] = "functional",
    loss: Annotated[str, typer.Option(help="Loss: auto, held_out or train.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of the fit.")] = 0,
    plan: Annotated[
        Path | None, typer.Option(help="File for ratewise.PlannedLR that is written: plan.json.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Page that is written: page.html or page.md.")
    ] = None,
) -> None:
    """Say where a training will end, from past runs of the same model; or why that is not known."""
    from ratewise.curves import scheduled
    from ratewise.curves.command import forecast as said

    shape: dict[str, Any] = {
        "warmup_steps": warmup_steps,
        "final_share": final_share,
        "cooldown": cooldown,
    }
    rates = scheduled(schedule, peak_lr, total_steps, **shape)
    shape |= {"schedule": schedule, "peak_lr": peak_lr, "total_steps": total_steps}
    words = said(
        store,
        rates,
        task=task,
        law=law,
        loss=loss,
        seed=seed,
        schedule=shape,
        plan=plan,
        report=report,
    )
    typer.echo(words)


@runs.callback()
def _runs() -> None:
    """Keep `import` a subcommand, although it is the only one."""


@runs.command("import")
@_stoppable("runs that were read are kept in {out}; the same command continues", "curves")
def import_runs(
    logs: Annotated[
        Path,
        typer.Argument(
            help="File or folder: event files, trainer_state.json, CSV, JSON, Parquet, a store."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the store that the runs are added to.")],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Which column is which, where names do not say it: step=iter,lr=rate,"
            "train_loss=a,held_out_loss=b."
        ),
    ] = None,
    branches: Annotated[
        str | None,
        typer.Option(help="Runs that went on from another's checkpoint: branch=trunk,..."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Schedule of runs without rates: cosine, linear, constant, wsd, ..."),
    ] = None,
    peak_lr: Annotated[float | None, typer.Option(help="Its highest rate.")] = None,
    total_steps: Annotated[
        int | None, typer.Option(help="Its length in steps.", show_default="the run's")
    ] = None,
    warmup_steps: Annotated[int, typer.Option(help="Steps of its linear rise.")] = 0,
    final_share: Annotated[
        float, typer.Option(help="Share of the highest rate that it ends at.")
    ] = 0.0,
    cooldown: Annotated[
        float | None, typer.Option(help="Share of the steps in which wsd falls.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="Optimizer of the runs.")] = None,
    task: Annotated[str | None, typer.Option(help="What the runs train.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Family of models, in words of your own: transformer.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples in a step.")] = None,
    parameters: Annotated[int | None, typer.Option(help="Parameters of the model.")] = None,
) -> None:
    """Read the logs of past trainings into a store, and say what was read and left out."""
    from ratewise.curves.importing import Named, import_logs

    if (schedule is None) != (peak_lr is None):
        raise invalid("--schedule", "given with --peak-lr", schedule, "pass both, or neither")
    named = None
    if schedule is not None and peak_lr is not None:
        named = Named(schedule, peak_lr, total_steps, warmup_steps, final_share, cooldown)
    known = {"optimizer": optimizer, "task": task, "family": family}
    counts = {"batch_size": batch_size, "parameters": parameters}
    facts = {name: value for name, value in {**known, **counts}.items() if value is not None}
    done = import_logs(
        logs,
        out,
        columns=_pairs("--columns", columns),
        parents=_pairs("--branches", branches),
        schedule=named,
        facts=facts,
    )
    typer.echo(done.summary)


def _pairs(option: str, text: str | None) -> dict[str, str]:
    """Return what stands in "a=b,c=d"."""
    pairs = [part.partition("=") for part in _split(text or "")]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise invalid(option, "pairs with = between", text, "type e.g. step=iter,lr=rate")
    return {name: value for name, _, value in pairs}


def _where(
    backend: str | None,
    jobs: int | None,
    address: str | None,
    resources: str | None,
    dashboard: bool,
) -> Where:
    """Return where work runs."""
    from ratewise.pool import Where
    from ratewise.pool.where import resources as parsed

    return Where(backend, jobs, address, parsed(resources), dashboard)


def _list() -> None:
    from ratewise.compare import optimizers, schedules, tasks

    typer.echo("tasks (what they need below --data):")
    for name in tasks.names():
        typer.echo(f"  {name:24} {tasks.requirements(name)}")
    typer.echo(f"optimizers: {', '.join(optimizers.names())}")
    typer.echo(f"schedules: {', '.join(schedules.names())}")


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _rates(text: str | None) -> list[float] | int | None:
    """Return a count, base rates, or None."""
    if text is None:
        return None
    if text.strip().isdigit():
        return int(text)
    try:
        return [float(rate) for rate in _split(text)]
    except ValueError as error:
        raise invalid("--rates", "numbers or a count", text, "type e.g. 0.001,0.01,0.1") from error


def main() -> None:
    """Run the command line; an expected error prints one line and exits with status 2."""
    try:
        app()
    except RatewiseError as error:
        print(f"ratewise: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
