"""What the oldest torch that can be installed lacks: a test of it skips there, with its reason."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.fsdp


def optimizer(name: str) -> type[torch.optim.Optimizer]:
    """Return torch's optimizer of that name; Adafactor is there from 2.5 on, Muon from 2.9 on."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    return getattr(torch.optim, name)


def named_parameters() -> None:
    """Skip where optimizers take no named parameters, as torch's do from 2.6 on."""
    try:
        torch.optim.SGD(torch.nn.Linear(1, 1).named_parameters(), lr=0.1)
    except TypeError:
        pytest.skip("this torch's optimizers take no named parameters")


def fully_shard() -> None:
    """Skip where FSDP2 has no public name, as it has from 2.6 on."""
    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("this torch has no public fully_shard")
