"""`ratewise learn`: policies that are learned."""

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


@stoppable("progress is kept beside {out}; the same command continues", "learn")
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
    data: Data = None,
    jobs: Jobs = None,
    backend: Backend = None,
    address: Address = None,
    resources: Resources = None,
    dashboard: Dashboard = False,
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
    kinds = list(known.KINDS) if tasks is None else split(tasks)
    where = place(backend, jobs, address, resources, dashboard)
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
