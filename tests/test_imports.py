"""What an import costs: each is done in an interpreter of its own, which then says what it loaded."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

#: Import names of what must stay out until a part that needs it is used.
HEAVY = (
    "torch",
    "jax",
    "sklearn",
    "duckdb",
    "plotly",
    "matplotlib",
    "transformers",
    "accelerate",
    "typer",
)


def loaded_by(statement: str) -> set[str]:
    """Return the heavy modules that `statement` loads."""
    code = f"{statement}\nimport sys\nprint(*{HEAVY!r} & sys.modules.keys())"
    code = f"import sys\n{statement}\nprint(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import ratewise",
        "import ratewise.errors",
        "import ratewise.rules",
        "import ratewise.rules.greedy, ratewise.rules.greedy_float, ratewise.rules.fixed",
        "import ratewise; dir(ratewise); ratewise.__version__",
    ],
)
def test_a_light_import_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_the_scheduler_needs_torch_and_nothing_else() -> None:
    assert loaded_by("import ratewise; ratewise.GreedyLR") == {"torch"}


def test_the_store_of_runs_needs_no_torch() -> None:
    pytest.importorskip("duckdb")
    assert loaded_by("import ratewise.runs") <= {"duckdb"}


def test_help_on_the_command_line_loads_no_torch() -> None:
    pytest.importorskip("typer")
    assert loaded_by("import ratewise.cli") <= {"typer"}


@pytest.mark.parametrize("name", ["torch", "duckdb", "matplotlib"])
def test_a_heavy_import_would_be_seen(name: str) -> None:
    pytest.importorskip(name)
    assert name in loaded_by(f"import ratewise, {name}")


def test_the_watched_names_are_import_names() -> None:
    """A name that nothing bears ("scikit-learn") would never be found in sys.modules."""
    absent = [name for name in HEAVY if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed here: {', '.join(absent)}")
    assert not absent
