"""What `examples/ray_tune.py` shows: checkpoints resume exactly; the Advisor is asked and told."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ratewise.curves import Advisor, Key

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_tune.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    pytest.importorskip("ray.tune", reason="needs Ray Tune: pip install 'ray[tune]'")
    spec = importlib.util.spec_from_file_location("ray_tune_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_checkpoint_resumes_exactly_and_one_without_the_scheduler_does_not(example: ModuleType):
    class Without(example.Digits):  # type: ignore[name-defined, misc]
        def _parts(self) -> dict[str, Any]:
            return {name: part for name, part in super()._parts().items() if name != "scheduler"}

    assert example.resumed_exactly(0.1)
    assert not example.resumed_exactly(0.1, Without)


def test_the_advisor_is_asked_for_each_trial_and_told_what_it_came_to(example: ModuleType):
    advisor = Advisor(key=Key("digits", optimizer="adamw", total_steps=90), budget=3)
    advised = example.Advised(advisor)
    first = advised.suggest("a")
    assert advised.suggest("b")["lr"] != first["lr"]  # two side by side
    advised.on_trial_complete("a", {"loss": 0.5})
    advised.on_trial_complete("b", error=True)
    assert [loss for _, loss, _ in advisor.trials] == [0.5, math.inf]
    advised.suggest("c")
    assert advised.suggest("d") is None, "one is under way"
    advised.on_trial_complete("c", {"loss": 0.4})
    assert advised.suggest("d") == example.Searcher.FINISHED
