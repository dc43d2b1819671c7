"""`ratewise compare`, `tune`, `report`: trainings under several schedules, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ratewise.cli.options import (
    Address,
    Backend,
    Dashboard,
    Data,
    Jobs,
    Resources,
    place,
    split,
    stoppable,
)
from ratewise.errors import invalid


@stoppable("finished runs are kept in {out}; the same command continues with the rest")
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
    data: Data = None,
    out: Annotated[
        Path, typer.Option(help="Folder that the runs and the report are written to.")
    ] = Path("report"),
    jobs: Jobs = None,
    backend: Backend = None,
    address: Address = None,
    resources: Resources = None,
    dashboard: Dashboard = False,
    list_names: Annotated[bool, typer.Option("--list", help="Show all names and exit.")] = False,
) -> None:
    """Train real models under several schedules, tune each one, and report which did best."""
    if list_names:
        _list()
        return
    from ratewise.compare import run

    run(
        split(tasks),
        optimizers=split(optimizers),
        schedules=split(schedules),
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        rates=_rates(rates),
        tuner=tuner,
        out=out,
        backend=place(backend, jobs, address, resources, dashboard),
        preset=preset,
        data=data,
        steps=steps,
    )


@stoppable("finished runs are kept in {store}; the same command continues")
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
    data: Data = None,
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


@stoppable("no run was changed; the same command writes the report again")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison: its --out.")],
) -> None:
    """Write the report of a comparison again from its stored runs, without training."""
    if not folder.is_dir():
        raise invalid("FOLDER", "a folder that exists", str(folder), "see --out of compare")
    from ratewise.compare import report as reports
    from ratewise.runs import Store

    typer.echo(reports.write(Store(folder)).table)


def _list() -> None:
    from ratewise.compare import optimizers, schedules, tasks

    typer.echo("tasks (what they need below --data):")
    for name in tasks.names():
        typer.echo(f"  {name:24} {tasks.requirements(name)}")
    typer.echo(f"optimizers: {', '.join(optimizers.names())}")
    typer.echo(f"schedules: {', '.join(schedules.names())}")


def _rates(text: str | None) -> list[float] | int | None:
    """Return a count, base rates, or None."""
    if text is None:
        return None
    if text.strip().isdigit():
        return int(text)
    try:
        return [float(rate) for rate in split(text)]
    except ValueError as error:
        raise invalid("--rates", "numbers or a count", text, "type e.g. 0.001,0.01,0.1") from error
