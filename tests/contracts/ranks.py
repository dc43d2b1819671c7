"""What one process of several does in the tests of agreement; run as a module, once a rank.

    python -m tests.contracts.ranks CASE RANK WORLD FOLDER

writes FOLDER/CASE-RANK.json: what it saw.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.contracts.rules import ROWS, make_optimizer, metrics

from ratewise.errors import NonFiniteLoss, RanksDisagree

STEPS = 40


def local_losses(rank: int) -> list[float]:
    """Return the losses of one rank: no two ranks have the same."""
    return [loss * (1 + 0.1 * rank) + 0.01 * rank for loss in metrics(STEPS, seed=rank)]


def follow(scheduler: Any, losses: list[Any]) -> list[list[str]]:
    """Return the rates after each loss, as hexadecimal: equal means equal to the last bit."""
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append([float(rate).hex() for rate in scheduler.get_last_lr()])
    return seen


def rates_by_row(rank: int, *, tensor: bool = False, spoil: int | None = None) -> dict[str, Any]:
    """Follow every row; rank `spoil` sees a NaN every ninth step."""
    found = {}
    for row in ROWS:
        losses: list[Any] = local_losses(rank)
        if rank == spoil:
            losses = [math.nan if step % 9 == 5 else loss for step, loss in enumerate(losses)]
        if tensor:
            losses = [torch.tensor(loss, dtype=torch.float64) for loss in losses]
        found[row.name] = follow(row.make(make_optimizer(0.01, 0.02, tensor=tensor)), losses)
    return found


def mean(rank: int, folder: Path) -> Any:
    return rates_by_row(rank)


def on_device(rank: int, folder: Path) -> Any:
    return rates_by_row(rank, tensor=True)


def one_nan(rank: int, folder: Path) -> Any:
    return rates_by_row(rank, spoil=1)


def rank0(rank: int, folder: Path) -> Any:
    """Only the first rank has a metric, as when it alone evaluates."""
    found = {}
    for row in ROWS:
        if row.takes("sync"):
            scheduler = row.make(make_optimizer(0.01, 0.02), sync="rank0")
            found[row.name] = follow(scheduler, local_losses(0) if rank == 0 else [None] * STEPS)
    return found


def apart(rank: int, folder: Path) -> Any:
    """With ``sync=None`` each goes its own way, and a check on request says so."""
    row = next(row for row in ROWS if row.name == "greedy, quick")
    scheduler = row.make(make_optimizer(0.01, 0.02), sync=None)
    rates: list[list[str]] = []
    for loss in local_losses(rank):
        rates += follow(scheduler, [loss])
        try:
            scheduler.check_agreement()
        except RanksDisagree as error:
            return {"rates": rates, "error": str(error)}
    return {"rates": rates, "error": None}


def agreed(rank: int, folder: Path) -> Any:
    """With agreement the same check is silent."""
    row = next(row for row in ROWS if row.name == "greedy, quick")
    scheduler = row.make(make_optimizer(0.01, 0.02))
    rates = follow(scheduler, local_losses(rank))
    scheduler.check_agreement()
    return {"rates": rates, "error": None}


def raises(rank: int, folder: Path) -> Any:
    """One rank's NaN raises on all of them: none is left waiting for the others."""
    row = next(row for row in ROWS if row.name == "greedy, quick")
    scheduler = row.make(make_optimizer(0.01), on_nonfinite="raise")
    scheduler.step(1.0)
    try:
        scheduler.step(math.nan if rank == 1 else 1.0)
    except NonFiniteLoss as error:
        return str(error)
    return None


def save(rank: int, folder: Path) -> Any:
    """Half a run; the first rank saves, as training scripts do."""
    found = {}
    for row in ROWS:
        scheduler = row.make(make_optimizer(0.01, 0.02))
        losses = local_losses(rank)
        found[row.name] = follow(scheduler, losses[: STEPS // 2 + 1])
        if rank == 0:
            torch.save(scheduler.state_dict(), folder / f"{ROWS.index(row)}.pt")
    return found


def resume(rank: int, folder: Path) -> Any:
    """The other half on however many ranks there are, all with the first one's losses."""
    found = {}
    for row in ROWS:
        scheduler = row.make(make_optimizer(0.5, 0.5))
        scheduler.load_state_dict(torch.load(folder / f"{ROWS.index(row)}.pt", weights_only=True))
        found[row.name] = follow(scheduler, local_losses(0)[STEPS // 2 + 1 :])
    return found


def guard(rank: int, folder: Path) -> Any:
    """A spike on one rank takes all ranks back."""
    from ratewise.schedulers.guard import SpikeGuard

    optimizer = make_optimizer(0.01)
    watcher = SpikeGuard(torch.nn.Linear(1, 1), optimizer, tolerate=0)
    losses = [1.0, 1.1, 50.0 if rank == 1 else 1.0, 1.0]
    seen = [watcher.spiked(loss) for loss in losses]
    return {"spiked": seen, "lr": optimizer.param_groups[0]["lr"]}


CASES = (mean, on_device, one_nan, rank0, apart, agreed, raises, save, resume, guard)


def main(rank: int, world: int, folder: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / f'meet-{world}'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    for case in CASES:
        if case.__name__ in names:
            result = json.dumps(case(rank, folder))
            (folder / f"{case.__name__}-{world}-{rank}.json").write_text(result)
            dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    rank, world, folder, *names = sys.argv[1:]
    main(int(rank), int(world), Path(folder), names)
