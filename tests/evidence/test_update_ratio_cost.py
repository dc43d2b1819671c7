"""What steering runs costs: the code, not its times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evidence.how import How
from evidence.speed import update_ratio_cost, update_ratio_ways
from ratewise.errors import StoreError

QUICK = update_ratio_cost.SIZES["quick"]


def test_the_page_has_every_contender_and_is_the_same_from_what_was_kept(tmp_path: Path):
    page = tmp_path / "cost.md"
    update_ratio_cost.run(How(tmp_path, page), QUICK)
    text = page.read_text()
    assert "Made by `python -m evidence update-ratio-cost`" in text
    for name in (
        "per tensor: measured",
        "LearnedLR: between",
        'per="group"',
        "no scheduler, again",
        "rebuilt from AdamW's state: between",
        "weights stretched for the step: between",
    ):
        assert name in text
    assert "A policy decides in" in text
    update_ratio_cost.run(How(tmp_path, page, page_only=True), QUICK)
    assert page.read_text() == text


def test_memory_is_that_of_a_process_of_its_own():
    assert 50 < update_ratio_cost.memory(update_ratio_cost.AGAIN, QUICK.sizes[0][0]) < 5000


def test_what_was_not_measured_is_told_so(tmp_path: Path):
    with pytest.raises(StoreError, match="measure first"):
        update_ratio_cost.run(How(tmp_path, tmp_path / "cost.md", page_only=True), QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("way", [update_ratio_ways.Rebuilt, update_ratio_ways.Stretched])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_ways_without_a_copy_scale_what_a_step_moves(way: type, decay: float):
    """Only the one that reads AdamW's state scales its decay, too."""
    torch.manual_seed(0)
    start = [torch.randn(4, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    grads = [[torch.randn_like(x) for x in start] for _ in range(3)]
    ours, plain = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(2))
    steered, other = (torch.optim.AdamW(x, lr=0.1, weight_decay=decay) for x in (ours, plain))
    hooked = way(steered)
    for each in grads:
        before = [p.detach().clone() for p in ours]
        for p, q, gradient, old in zip(ours, plain, each, before, strict=True):
            p.grad, q.grad = gradient.clone(), gradient.clone()
            q.data.copy_(old)
        steered.step()
        other.step()
        for p, q, old, f in zip(ours, plain, before, hooked.factors, strict=True):
            exact = torch.allclose(p, old + f * (q - old), rtol=1e-12, atol=1e-12)
            assert exact == (way is update_ratio_ways.Rebuilt or decay == 0.0 or f == 1.0)
