"""`ratewise forecast` and `ratewise runs import`: what past trainings tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ratewise.cli.options import pairs, stoppable
from ratewise.errors import invalid


@stoppable("nothing was written; the same command starts again", "curves")
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
    begun: Annotated[
        str | None,
        typer.Option(help="The training itself, under way: its run in the store, or its log."),
    ] = None,
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
        begun=begun,
        plan=plan,
        report=report,
    )
    typer.echo(words)


@stoppable("runs that were read are kept in {out}; the same command continues", "curves")
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
        columns=pairs("--columns", columns),
        parents=pairs("--branches", branches),
        schedule=named,
        facts=facts,
    )
    typer.echo(done.summary)
