"""What the tasks share: a split with a fixed seed, losses and metrics over a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ratewise.compare.task import Batch, Task

#: The split is a property of the task, not of a run: the seed never changes.
SPLIT_SEED = 20231


def shuffled(count: int) -> Tensor:
    """Return a fixed permutation of 0..count - 1."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def split(tensors: Batch, shares: Sequence[float] = (0.6, 0.2)) -> tuple[Batch, Batch, Batch]:
    """Return disjoint train, validation and test parts; the test part takes what is left."""
    order = shuffled(len(tensors[0]))
    train = int(shares[0] * len(order))
    middle = train + int(shares[1] * len(order))
    cuts = order[:train], order[train:middle], order[middle:]
    first, second, third = (tuple(x[cut] for x in tensors) for cut in cuts)
    return first, second, third


def standardised(parts: Sequence[Tensor]) -> list[Tensor]:
    """Fill missing values and standardise columns with the first (train) part's statistics."""
    train = parts[0]
    filled = torch.from_numpy(np.nanmedian(train.numpy(), axis=0))
    parts = [torch.where(torch.isnan(part), filled, part) for part in parts]
    mean, deviation = parts[0].mean(0), parts[0].std(0).clamp_min(1e-6)
    return [((part - mean) / deviation).float() for part in parts]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats; targets [n], or [n, length] with logits [n, length, k]."""
    inputs, targets = batch
    logits = model(inputs)
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def accuracy(model: nn.Module, batch: Batch) -> Tensor:
    """Share of right answers."""
    inputs, targets = batch
    return (model(inputs).argmax(-1) == targets).float().mean()


def next_character(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy in nats a character: rows [n, length + 1] hold inputs and successors."""
    (rows,) = batch
    return cross_entropy(model, (rows[:, :-1], rows[:, 1:]))


def next_character_accuracy(model: nn.Module, batch: Batch) -> Tensor:
    """Share of characters predicted right."""
    (rows,) = batch
    return accuracy(model, (rows[:, :-1], rows[:, 1:]))


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of a standardised target."""
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs).squeeze(-1), targets)


def absolute_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean absolute error, in standard deviations of the target."""
    inputs, targets = batch
    return nn.functional.l1_loss(model(inputs).squeeze(-1), targets)


def classification(
    name: str,
    preset: str,
    split: tuple[Batch, Batch, Batch],
    model: Callable[[], nn.Module],
    batch_size: int,
    full_steps: int = 2000,
) -> Task:
    """Return a task of telling classes apart, of 300 steps if it is small.

    Args:
        name, preset, model, batch_size: as `Task` takes them.
        split: the train, validation and test part.
        full_steps: steps with the full preset.
    """
    train, validation, test = split
    return Task(
        name=name,
        model=model,
        loss=cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        train=train,
        validation=validation,
        test=test,
        steps=300 if preset == "small" else full_steps,
        batch_size=batch_size,
        preset=preset,
    )
