"""What several commands share: options, and how Ctrl-C and missing libraries are told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from ratewise.errors import extra_named, invalid

if TYPE_CHECKING:
    from ratewise.pool import Where

Command = TypeVar("Command", bound=Callable[..., Any])
Data = Annotated[
    str | None, typer.Option(help="Folder with the data sets.", envvar="RATEWISE_DATA")
]
Jobs = Annotated[
    int | None,
    typer.Option(help="How many work at once.", show_default="1; on Ray as many as there is room"),
]
Backend = Annotated[
    str | None,
    typer.Option(
        help="Where they work: here, processes or ray.",
        show_default="here; processes with --jobs above 1",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Cluster that Ray runs on: auto, HOST:6379 or ray://HOST:10001.",
        show_default="a local Ray",
    ),
]
Resources = Annotated[
    str | None,
    typer.Option(
        help="What each worker on Ray needs: cpus=2,gpus=0.25,memory=2e9,NAME=1.",
        show_default="cpus=1",
    ),
]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Print Ray's address.")]


def stoppable(how: str, extra: str = "compare") -> Callable[[Command], Command]:
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


def split(text: str) -> list[str]:
    """Return what stands between commas.

    >>> split("adamw, sgd,")
    ['adamw', 'sgd']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def pairs(option: str, text: str | None) -> dict[str, str]:
    """Return what stands in "a=b,c=d"."""
    pairs = [part.partition("=") for part in split(text or "")]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise invalid(option, "pairs with = between", text, "type e.g. step=iter,lr=rate")
    return {name: value for name, _, value in pairs}


def place(
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
