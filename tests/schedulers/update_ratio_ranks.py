"""What one process of several does in the tests of UpdateRatioLR; run as a module, once a rank.

    python -m tests.schedulers.update_ratio_ranks RANK WORLD FOLDER

writes FOLDER/RANK.json: what it saw.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.rules.policies import random_policy
from torch import nn

from ratewise import LearnedLR, UpdateRatioLR
from ratewise.errors import RatewiseError
from ratewise.rules import online

STEPS = 12
#: What has a factor of its own; or what corrects them all: a policy, or the gradients.
MODES = ("tensor", "group", "model", "learned", "online")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))


def batch(step: int, part: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of eight, or one of its two halves."""
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 2, generator=generator)
    return (x, y) if part is None else (x[part::2], y[part::2])


def make(optimizer: torch.optim.Optimizer, per: str) -> UpdateRatioLR | LearnedLR:
    if per == "learned":
        return LearnedLR(optimizer, policy=random_policy(windows=6), total_steps=STEPS)
    if per == "online":
        return UpdateRatioLR(optimizer, online=True, ratio=0.02)
    return UpdateRatioLR(optimizer, per=per, total_steps=STEPS, measure_every=1)


def made(parameters: Any, per: str) -> torch.optim.Optimizer:
    if per == "online":
        return torch.optim.AdamW(parameters, lr=0.05)
    return torch.optim.SGD(parameters, lr=3.0, momentum=0.9)


def length(per: str) -> int:
    return online.FIRST + STEPS if per == "online" else STEPS


def train(model: nn.Module, per: str, part: int | None = None) -> UpdateRatioLR | LearnedLR:
    optimizer = made(model.parameters(), per)
    scheduler = make(optimizer, per)
    for step in range(length(per)):
        x, y = batch(step, part)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    return scheduler


def seen(model: nn.Module, scheduler: UpdateRatioLR | LearnedLR) -> dict[str, Any]:
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    weights = [float(x) for p in whole for x in p.detach().flatten()]
    found = {"weights": weights, "factors": scheduler.factors().tolist()}
    if isinstance(scheduler, UpdateRatioLR):
        found["correction"] = [float(scheduler.correction())]
    return found


def parallel(rank: int, per: str) -> Any:
    """DistributedDataParallel, each rank on its half of the batch."""
    model = network()
    scheduler = train(nn.parallel.DistributedDataParallel(model), per, rank)
    scheduler.check_agreement()
    return seen(model, scheduler)


def sharded(rank: int, per: str) -> Any:
    """FSDP2, each rank on its half of the batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    scheduler = train(model, per, rank)
    scheduler.check_agreement()
    return seen(model, scheduler)


def mixed(rank: int, per: str) -> Any:
    """Tensors cut by rows, by columns and not at all, with gradients of the whole batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = network()
    places = [Shard(0), Replicate(), Shard(1), Shard(0), Replicate(), Shard(0)]
    cut = [
        nn.Parameter(distribute_tensor(p.detach().clone(), mesh, [place]))
        for p, place in zip(whole.parameters(), places, strict=True)
    ]
    optimizer = made(cut, per)
    scheduler = make(optimizer, per)
    for step in range(length(per)):
        x, y = batch(step)
        for p, part in zip(whole.parameters(), cut, strict=True):
            p.data.copy_(part.full_tensor())
        whole.zero_grad()
        loss = nn.functional.mse_loss(whole(x), y)
        loss.backward()
        for p, part, place in zip(whole.parameters(), cut, places, strict=True):
            part.grad = distribute_tensor(p.grad, mesh, [place])
        optimizer.step()
        scheduler.step(loss)
    return seen(nn.ParameterList(cut), scheduler)


def apart(rank: int, per: str) -> Any:
    """Gradients that nobody has reduced: a check on request says so."""
    scheduler = train(network(), per, rank)
    try:
        scheduler.check_agreement()
    except RatewiseError as error:
        return f"{type(error).__name__}: {error}"
    return None


CASES = (parallel, sharded, mixed, apart)


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meet'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    found = {f"{case.__name__} {per}": case(rank, per) for case in CASES for per in MODES}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # all is written: gloo's threads sometimes abort a process that ends


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
