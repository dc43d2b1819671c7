"""What comes before fine-tuning: a model is trained on other data, by AdamW in batches of 32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ratewise.simulate.order import DataOrder
from ratewise.simulate.task import Data, Task

#: Optimizer steps, peak rate, and the seed of everything.
STEPS, RATE, SEED = 2000, 3e-3, 20231


def trained(task: Task, data: Data) -> nn.Module:
    """Return a task's model after a linear decay on these rows; it draws from torch's generator."""
    torch.default_generator.manual_seed(SEED)
    model = task.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    order = DataOrder([SEED], len(data[0]), 32)
    for _ in range(STEPS):
        rows: Tensor = order.next()[0]
        optimizer.zero_grad()
        task.loss(model(data[0][rows]), *(part[rows] for part in data[1:])).backward()
        optimizer.step()
        schedule.step()
    return model
