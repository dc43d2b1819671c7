"""Under the real Lightning, its default alone: `return [optimizer], [scheduler]`, once an epoch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

pl = pytest.importorskip("lightning.pytorch", reason="ratewise[lightning] is not installed")

from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from tests.integrations import test_lightning as whole  # noqa: E402
from tests.integrations.test_lightning import BATCHES, EPOCHS, RATE, fit  # noqa: E402
from torch.optim import SGD  # noqa: E402

from ratewise import GreedyLR, UpdateRatioLR  # noqa: E402
from ratewise.errors import PastHorizonWarning  # noqa: E402

STEPS = BATCHES * EPOCHS
pytestmark = whole.pytestmark
_small_and_quiet = whole._small_and_quiet


class Bare(whole.Module):
    """The module with nothing of ours but a scheduler."""

    def __init__(self, make: Any = UpdateRatioLR, **options: Any) -> None:
        super().__init__()
        self.make, self.options = make, {"total_steps": STEPS, **options}

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), RATE, momentum=0.5)
        self.scheduler = self.make(optimizer, **self.options)
        return [optimizer], [self.scheduler]


class EachStep(Bare):
    def configure_optimizers(self) -> Any:
        (optimizer,), (scheduler,) = super().configure_optimizers()
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def test_a_schedule_that_steers_moves_at_each_step_to_its_end():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PastHorizonWarning)
        bare = fit(Bare(schedule="linear"))
    assert bare.rates == pytest.approx([RATE * (1 - step / STEPS) for step in range(STEPS)])
    assert bare.scheduler.last_epoch == STEPS
    assert bare.scheduler.get_last_lr() == [0.0]
    each = fit(EachStep(schedule="linear"))
    assert (bare.rates, bare.weights) == (each.rates, each.weights)


def test_a_schedule_of_one_that_reacts_comes_to_its_end():
    options = {"schedule": "linear", "missing": "hold"}
    bare = fit(Bare(GreedyLR, **options))
    wanted = [RATE * (1 - step // BATCHES * BATCHES / STEPS) for step in range(STEPS)]
    assert bare.rates == pytest.approx(wanted), "it decides once a call"
    assert bare.scheduler.get_last_lr() == [0.0]
    with pytest.warns(PastHorizonWarning, match="in optimizer steps"):
        fit(Bare(GreedyLR, **options | {"total_steps": EPOCHS}))


def test_from_the_middle_of_an_epoch_it_goes_on_to_the_bit(tmp_path: Path):
    when = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=5)
    run = fit(Bare(), when)
    paths = list(tmp_path.glob("*.ckpt"))
    assert len(paths) >= 6
    for path in paths:
        again = fit(Bare(), checkpoint=path)
        assert again.rates == run.rates[len(run.rates) - len(again.rates) :], path
        assert again.weights == run.weights, path
