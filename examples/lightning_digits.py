"""Train on handwritten digits under Lightning and GreedyLR: one line in `configure_optimizers`.

`configure` lets the scheduler hear the loss of every step, and Lightning's checkpoints hold it.
Give it a metric, ``monitor="val_loss"``, and it decides once at the end of each validation.
``--quick`` trains less.
"""

from __future__ import annotations

import logging
import sys
import warnings

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ratewise
from ratewise.integrations.lightning import configure


class Digits(pl.LightningModule):
    """A network 64 -> 64 -> 10."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, index):
        """Return the loss: `configure` takes it from here."""
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y)

    def validation_step(self, batch, index):
        """Log the accuracy."""
        x, y = batch
        self.log("accuracy", (self.layers(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        """Return the optimizer with its schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        self.scheduler = ratewise.GreedyLR(optimizer)
        return configure(self, optimizer, self.scheduler)  # the whole change


def main() -> None:
    quick = "--quick" in sys.argv
    for words in ("does not have many workers", "LeafSpec"):  # Lightning's own
        warnings.filterwarnings("ignore", f".*{words}")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    pl.seed_everything(0, verbose=False)

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels), random_state=0
    )
    train = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    test = DataLoader(TensorDataset(x_test, y_test), batch_size=len(y_test))

    model = Digits()
    trainer = pl.Trainer(
        max_epochs=8 if quick else 25,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, test)

    model.scheduler.explain(last=5)
    accuracy = float(trainer.callback_metrics["accuracy"])
    print(f"right on {accuracy:.1%} of {len(y_test)} images it never saw")


if __name__ == "__main__":
    main()
