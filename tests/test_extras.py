"""What is not installed is named, with the extra that has it; the core needs none of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.processes import Ended, Python

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="reads pyproject.toml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: Import names of what the extras bring.
OPTIONAL = (
    "typer",
    "rich",
    "sklearn",
    "scipy",
    "duckdb",
    "plotly",
    "matplotlib",
    "transformers",
    "accelerate",
    "lightning",
    "optax",
    "jax",
    "keras",
    "tensorboard",
    "gymnasium",
    "stable_baselines3",
    "ray",
)

LEARN = "from ratewise.learning.ppo import learn"
COMPARE = "from ratewise.compare import run; run('digits-mlp', out='out')"
EVENTS = "import pathlib, ratewise.curves.tensorboard as t; t._collect(pathlib.Path('x'), {})"

#: (what is not installed, what is asked for, the extra that the error names)
MISSING = [
    ("typer", "import ratewise.__main__ as m; m.main()", "cli"),
    ("sklearn", COMPARE, "compare"),
    ("scipy", COMPARE, "compare"),
    ("duckdb", COMPARE, "compare"),
    ("plotly", COMPARE, "compare"),
    ("matplotlib", COMPARE, "compare"),
    ("sklearn", "import ratewise.simulate as s; s.family('mlp', data='digits')", "compare"),
    ("transformers", "import ratewise; ratewise.integrations.transformers", "transformers"),
    ("lightning", "import ratewise; ratewise.integrations.lightning", "lightning"),
    ("optax", "import ratewise; ratewise.integrations.optax", "optax"),
    ("jax", "import ratewise; ratewise.integrations.optax", "optax"),
    ("keras", "import ratewise; ratewise.integrations.keras", "keras"),
    ("tensorboard", EVENTS, "tensorboard"),
    ("ray", "import ratewise.pool.on_ray", "ray"),
    ("duckdb", "import ratewise.curves", "curves"),
    ("scipy", "import ratewise.curves", "curves"),
    ("duckdb", "import ratewise.runs", "curves"),
    ("sklearn", "import ratewise; ratewise.StochasticNMF(2)", "nmf"),
    ("scipy", "import ratewise; ratewise.StochasticNMF(2)", "nmf"),
    ("stable_baselines3", LEARN, "learn"),
    ("gymnasium", LEARN, "learn"),
    ("gymnasium", "import ratewise.learning.env", "learn"),
]


def run(tmp_path: Path, absent: str, statement: str) -> Ended:
    """Run a statement in a process where `absent` is not installed."""
    script = str(Path(__file__).with_name("without.py"))
    return Python(script, absent, statement, cwd=tmp_path, logs=tmp_path / "logs").end()


@pytest.mark.parametrize(("absent", "statement", "extra"), MISSING)
def test_what_is_missing_is_named_with_its_extra(
    tmp_path: Path, absent: str, statement: str, extra: str
):
    done = run(tmp_path, absent, statement)
    assert done.status != 0
    last = done.stderr.strip().splitlines()[-1]
    assert repr(absent) in last, done.stderr
    assert last.endswith(f"which is not installed: pip install 'ratewise[{extra}]'"), done.stderr


def test_every_extra_has_a_case():
    extras = set(PROJECT["optional-dependencies"])
    assert extras - {extra for _, _, extra in MISSING} == {"dev"}


@pytest.mark.parametrize(
    ("line", "absent", "extra"),
    [
        ("compare", "duckdb", "compare"),
        ("report .", "duckdb", "compare"),
        ("learn", "gymnasium", "learn"),
        ("nmf fit x.npy --components 2", "sklearn", "nmf"),
        ("runs import . --out kept", "duckdb", "curves"),
        ("forecast . --schedule linear --peak-lr 1 --total-steps 9", "scipy", "curves"),
    ],
)
def test_a_command_says_in_one_line_what_is_missing(
    tmp_path: Path, line: str, absent: str, extra: str
):
    called = f"import sys; sys.argv = ['ratewise', *{line.split()!r}]"
    done = run(tmp_path, absent, f"{called}; import ratewise.__main__ as m; m.main()")
    assert done.status == 2
    assert done.stderr.splitlines() == [
        f"ratewise: this command needs {absent!r}, which is not installed: "
        f"pip install 'ratewise[{extra}]'"
    ]


def test_without_typer_the_command_is_one_line(tmp_path: Path):
    done = run(tmp_path, "typer", "import ratewise.__main__ as m; m.main()")
    assert done.status == 2
    assert done.stderr == (
        "ratewise: the command ratewise needs 'typer', which is not installed: "
        "pip install 'ratewise[cli]'\n"
    )


TRAINING = """
import torch, ratewise
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for kind, rest in ((ratewise.GreedyLR, {}), (ratewise.LearnedLR, {"total_steps": 100})):
    scheduler = kind(torch.optim.SGD(model.parameters(), lr=0.1), **rest)
    for _ in range(3):
        scheduler.optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        scheduler.optimizer.step()
        scheduler.step(loss)
    scheduler.explain()
print(ratewise.__version__)
"""


def test_the_core_trains_without_any_extra(tmp_path: Path):
    done = run(tmp_path, ",".join(OPTIONAL), TRAINING)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PROJECT.get("version", "0.1.0")


def test_what_is_hidden_cannot_be_imported(tmp_path: Path):
    done = run(tmp_path, "sklearn", "import scipy, sklearn.datasets")
    assert done.status == 1
    assert "No module named 'sklearn'" in done.stderr
