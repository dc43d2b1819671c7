"""What an import loads, seen from an interpreter of its own; and that the import lint can fail."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

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
    "lightning",
    "optax",
    "keras",
    "tensorboard",
    "typer",
    "ray",
)


def loaded_by(statement: str) -> set[str]:
    """Return the heavy modules that `statement` loads."""
    code = f"import sys\n{statement}\nprint(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import ratewise",
        "import ratewise; dir(ratewise); ratewise.__version__",
        "import ratewise.errors",
        "import ratewise.rules",
        "import ratewise.integrations",
        "import ratewise.rules.greedy, ratewise.rules.greedy_float, ratewise.rules.fixed",
    ],
)
def test_light_import_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_scheduler_loads_torch_and_nothing_else() -> None:
    names = "ratewise.GreedyLR, ratewise.SpikeGuard, ratewise.JSONLWriter"
    assert loaded_by(f"import ratewise; {names}") == {"torch"}


def test_an_integration_is_there_by_its_name_as_the_readme_writes_it() -> None:
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    names = [f"ratewise.integrations.{x}" for x in ("optax", "keras", "transformers", "lightning")]
    code = f"import ratewise\nfor x in ({', '.join(names)}): print(x.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.stdout.split() == names, done.stderr


def test_an_integration_that_does_not_exist_is_named() -> None:
    import ratewise

    with pytest.raises(AttributeError, match="no attribute 'tensorflow'"):
        _ = ratewise.integrations.tensorflow


def test_a_factorisation_loads_no_torch_until_a_tensor_or_device_comes():
    fit = "import numpy as np; ratewise.StochasticNMF(1, solver='sgd', max_iter=1).fit(np.eye(2))"
    assert loaded_by(f"import ratewise; {fit}") <= {"sklearn"}
    assert loaded_by("import ratewise.nmf; ratewise.nmf.StochasticNMF") == {"sklearn"}
    assert loaded_by("import ratewise.nmf") == set()


def test_store_of_runs_loads_no_torch() -> None:
    assert loaded_by("import ratewise.runs") <= {"duckdb"}


def test_command_line_loads_its_parts_inside_its_subcommands() -> None:
    assert loaded_by("import ratewise.cli") <= {"typer"}


@pytest.mark.parametrize("name", ["torch", "duckdb", "matplotlib"])
def test_heavy_import_is_seen(name: str) -> None:
    assert name in loaded_by(f"import ratewise, {name}")


def test_watched_names_are_import_names() -> None:
    """A name that no module bears ("scikit-learn") would never be found in sys.modules."""
    assert [name for name in HEAVY if importlib.util.find_spec(name) is None] == []


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in `folder` against the contracts."""
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache", "--config", str(ROOT / ".importlinter")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that a test may spoil."""
    unneeded = shutil.ignore_patterns("__pycache__", "results")
    copy = tmp_path / "ratewise"
    shutil.copytree(ROOT / "src" / "ratewise", copy, ignore=unneeded)
    shutil.copytree(ROOT / "evidence", tmp_path / "evidence", ignore=unneeded)
    return copy


def test_import_lint_passes_the_package(package: Path) -> None:
    done = lint_imports(package.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("errors.py", "import numpy", "errors imports the standard library alone"),
        ("rules/greedy.py", "import torch", "rules are pure"),
        ("rules/greedy.py", "def f():\n    import jax", "rules are pure"),
        ("rules/fixed.py", "import ratewise.schedulers.greedy", "nothing imports upwards"),
        ("schedulers/greedy.py", "import ratewise.runs", "schedulers need torch and rules"),
        ("runs/store.py", "import torch", "runs store names and numbers"),
        ("runs/schema.py", "import ratewise.rules.fixed", "no other part but errors"),
        ("runs/schema.py", "import ratewise.data.idx", "no other part but errors"),
        ("data/text.py", "import sklearn.datasets", "data are read with numpy and torch"),
        ("data/idx.py", "import ratewise.models.dense", "nothing imports upwards"),
        ("models/dense.py", "import numpy", "models are torch alone"),
        ("models/dense.py", "import ratewise.rules.fixed", "nothing imports upwards"),
        ("rules/fixed.py", "import ratewise.data.idx", "nothing imports upwards"),
        ("simulate/task.py", "import ratewise.schedulers.greedy", "simulate trains on stacks"),
        ("simulate/task.py", "def f():\n    import duckdb", "simulate trains on stacks"),
        ("simulate/task.py", "import ratewise.compare.task", "nothing imports upwards"),
        ("schedulers/greedy.py", "import ratewise.simulate.task", "nothing imports upwards"),
        ("learning/tasks.py", "import stable_baselines3", "know the trainer"),
        ("learning/ppo.py", "import ratewise.schedulers.greedy", "learning stands on"),
        ("learning/group.py", "import ratewise.compare.task", "learning stands on"),
        ("schedulers/learned.py", "import gymnasium", "know the trainer"),
        ("compare/statistics.py", "import ratewise.runs", "statistics are numpy and scipy alone"),
        ("compare/statistics.py", "import sklearn", "statistics are numpy and scipy alone"),
        ("compare/analysis.py", "import torch", "analysis and report"),
        ("compare/task.py", "import ratewise.cli", "nothing imports the command line"),
        ("compare/task.py", "import gymnasium", "compare does not parse commands"),
        ("schedulers/guard.py", "import ratewise.integrations.optax", "nothing imports upwards"),
        ("integrations/optax/greedy.py", "import ratewise.compare", "nothing imports upwards"),
        (
            "integrations/optax/greedy.py",
            "import ratewise.integrations.keras",
            "do not know each other",
        ),
        ("integrations/keras/callback.py", "import duckdb", "needs its own framework"),
        ("compare/sweep.py", "import ray", "only pool.on_ray knows Ray"),
        ("pool/pieces.py", "import ratewise.rules.fixed", "knows nothing of it"),
        ("unplanned.py", "import math", "nothing imports upwards"),
        ("runs/store.py", "import evidence.page", "never imports the evidence"),
        ("../evidence/nmf/page.py", "import evidence.article.numbers", "do not know each other"),
        ("../evidence/nmf/numbers.py", "import evidence.nmf.run", "nobody imports run"),
        ("../evidence/page.py", "import evidence.robustness.run", "do not know each other"),
    ],
)
def test_import_lint_refuses(package: Path, module: str, statement: str, contract: str) -> None:
    with (package / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")
    done = lint_imports(package.parent)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout
