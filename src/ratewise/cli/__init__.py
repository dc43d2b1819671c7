"""The command line: `ratewise compare | forecast | learn | nmf | report | runs | tune`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ratewise import __version__
from ratewise.cli import comparing, factorising, learning, past_runs
from ratewise.errors import RatewiseError

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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@nmf.callback()
def _nmf() -> None:
    """Keep `fit` a subcommand, although it is the only one."""


@runs.callback()
def _runs() -> None:
    """Keep `import` a subcommand, although it is the only one."""


app.command()(comparing.compare)
app.command()(comparing.tune)
app.command()(comparing.report)
app.command()(learning.learn)
app.command()(past_runs.forecast)
nmf.command()(factorising.fit)
runs.command("import")(past_runs.import_runs)


def main() -> None:
    """Run the command line; an expected error prints one line and exits with status 2."""
    try:
        app()
    except RatewiseError as error:
        print(f"ratewise: {error}", file=sys.stderr)
        sys.exit(2)
