"""A bare step without a loss says what to write, in a loop and in the trainers that make it."""

from __future__ import annotations

import importlib
import re

import pytest
import torch

from ratewise import GreedyLR, LearnedLR
from ratewise.errors import MissingLoss


@pytest.mark.parametrize(("kind", "rest"), [(GreedyLR, {}), (LearnedLR, {"total_steps": 200})])
def test_the_error_names_what_trainer_and_lightning_need(kind: type, rest: dict[str, int]):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2, 2))], lr=0.1)
    scheduler = kind(optimizer, **rest)
    optimizer.step()
    with pytest.raises(MissingLoss) as caught:
        scheduler.step()
    words = str(caught.value)
    assert "call step(loss), or observe(loss) before step()" in words
    for framework, name in (("transformers", "ObserveCallback"), ("lightning", "configure")):
        assert re.search(rf"\b{name}\(", words)
        pytest.importorskip(framework, reason="the name is looked up in the real integration")
        assert hasattr(importlib.import_module(f"ratewise.integrations.{framework}"), name)
