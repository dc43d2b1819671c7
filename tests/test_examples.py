"""Every file of examples/ runs to its end, as a person would run it, with `--quick`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.processes import Ended, Python

EXAMPLES = Path(__file__).parents[1] / "examples"
#: What an example needs that no extra of ours brings.
NEEDS = {"ray_tune.py": ("pandas", "pyarrow", "tensorboardX")}


def scripts(folder: Path) -> list[Path]:
    """Return the examples in `folder`; there being none is an error."""
    found = sorted(folder.glob("*.py"))
    if not found:
        raise FileNotFoundError(f"no examples in {folder}")
    return found


def run(script: Path, folder: Path) -> Ended:
    """Run a script in a folder of its own; an example with nothing to shorten ignores `--quick`."""
    (folder / "own").mkdir()
    return Python(str(script), "--quick", cwd=folder / "own", logs=folder / "logs").end()


@pytest.mark.parametrize("script", scripts(EXAMPLES), ids=lambda script: script.name)
def test_example_runs_and_prints(script: Path, tmp_path: Path) -> None:
    for module in NEEDS.get(script.name, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{script.name} needs {module}: pip install 'ray[tune]'")
    done = run(script, tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.strip(), f"{script.name} printed nothing"


def test_a_broken_example_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("print('fine so far')\nraise SystemExit('lost')\n")
    done = run(script, tmp_path)
    assert done.status == 1
    assert "lost" in done.stderr


def test_no_examples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no examples"):
        scripts(tmp_path)
