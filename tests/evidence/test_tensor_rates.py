"""The table of docs/devices.md: which torch optimizers read a rate that is a tensor."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from evidence.speed import tensor_rates

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "devices.md"


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("SGD", {}, "read"),
        ("SGD", {"foreach": False}, "read"),
        ("SGD", {"fused": True}, "kept"),
        ("AdamW", {}, "read"),
        ("AdamW", {"foreach": True}, "refused"),
        ("AdamW", {"capturable": True}, "kept"),
        ("AdamW", {"fused": True}, "kept"),
        ("RMSprop", {"capturable": True}, "kept"),
        ("RMSprop", {"capturable": True, "foreach": False}, "read"),
        ("Rprop", {"capturable": True}, "read once"),
        ("Adafactor", {}, "read"),
        ("Adafactor", {"fused": True}, "-"),
    ],
)
def test_what_an_optimizer_does_to_a_tensor_rate(name: str, settings: dict[str, Any], word: str):
    assert tensor_rates.verdict(name, **settings) == word


def test_a_python_rate_is_not_read_but_some_read_other_things():
    assert tensor_rates.verdict("AdamW", tensor=False) == "kept"
    assert tensor_rates.verdict("Adafactor", tensor=False) == "read"


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adadelta", "Muon"])
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor", "float"])
def test_real_tensors_on_the_cpu_say_the_same(name: str, tensor: bool):
    step = tensor_rates.stepper(name, "cpu", torch.tensor(0.1) if tensor else 0.1)
    with tensor_rates.Heard("cpu") as heard:
        step()
    assert bool(heard.reads) == tensor
    assert tensor_rates.verdict(name, tensor=tensor) == ("read" if tensor else "kept")


def test_a_capturable_step_needs_the_stand_in_for_a_gpu():
    step = tensor_rates.stepper("AdamW", "cpu", torch.tensor(0.1), capturable=True)
    with pytest.raises(AssertionError, match="capturable=True"):
        step()


class Reads(torch.optim.SGD):
    """Descends by hand, and reads the rate."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad * self.of(group["lr"]))

    def of(self, rate: Any) -> Any:
        return float(rate)


class Keeps(Reads):
    """The same without reading."""

    def of(self, rate: Any) -> Any:
        return rate


@pytest.mark.parametrize(("kind", "word"), [(Reads, "read"), (Keeps, "kept")])
def test_an_optimizer_that_reads_is_told_from_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, kind: type, word: str
):
    monkeypatch.setattr(torch.optim, "Stranger", kind, raising=False)
    assert tensor_rates.verdict("Stranger") == word
    assert tensor_rates.compiled("Stranger") == word


def test_every_optimizer_of_torch_has_a_line():
    kinds = (getattr(torch.optim, name) for name in dir(torch.optim))
    base = torch.optim.Optimizer
    names = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, base)}
    assert names - {"Optimizer"} == set(tensor_rates.NAMES)


def test_the_page_holds_what_the_command_prints():
    page = PAGE.read_text(encoding="utf-8")
    version = torch.__version__.split("+")[0]
    if f"torch {version}" not in page:
        pytest.skip(f"the page is of another torch than {version}")
    assert tensor_rates.table() in page


def test_a_decision_takes_some_150_operations_and_a_step_between_two_hardly_any():
    decision, between = tensor_rates.operations(every=10)
    assert 100 < decision < 200
    assert 0 < between <= 5
    assert tensor_rates.operations(every=10, window=1)[0] < decision


def test_the_benchmark_leaves_torch_as_it_was():
    before = {name: vars(module).copy() for name, module in optim_modules()}
    tensor_rates.verdict("AdamW", capturable=True)
    after = {name: vars(module) for name, module in optim_modules()}
    for name, names in before.items():
        assert {k: v for k, v in after[name].items() if k in names} == names


def optim_modules() -> list[tuple[str, ModuleType]]:
    """Return torch's optimizer modules by name."""
    return [(n, m) for n, m in sys.modules.items() if n.startswith("torch.optim.")]
