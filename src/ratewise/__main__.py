"""The command `ratewise`, also `python -m ratewise`; says what to install where it cannot run."""

from __future__ import annotations

import sys

from ratewise.errors import MissingExtra, extra_named


def main() -> None:
    """Run the command line of `ratewise.cli`, whose libraries come with an extra."""
    try:
        with extra_named("the command ratewise", "cli"):
            from ratewise import cli
    except MissingExtra as error:
        print(f"ratewise: {error}", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
