"""Under the real Lightning: the loss is heard, Lightning's own step decides, checkpoints go on."""

from __future__ import annotations

import itertools
import logging
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pl = pytest.importorskip("lightning.pytorch", reason="ratewise[lightning] is not installed")

from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers.logger import DummyLogger  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402
from torch.optim import lr_scheduler  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from ratewise import GreedyConfig, GreedyLR  # noqa: E402
from ratewise.errors import InvalidArgument, MissingLoss, UnknownName, WrongType  # noqa: E402
from ratewise.integrations.lightning import ObserveCallback, configure  # noqa: E402
from ratewise.rules import criterion  # noqa: E402

BATCHES, EPOCHS, RATE = 7, 8, 0.1
#: Moves often, in both directions.
RULE: dict[str, Any] = {
    "factor": 0.5,
    "patience": 0,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}
RULE |= {"min_lr": 0.01, "max_lr": 0.4}

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in (
        ".*does not have many workers",
        ".*`isinstance.treespec, LeafSpec.` is deprecated",
        ".*Checkpoint directory .* exists and is not empty",
        ".*callbacks used to create the checkpoint need to be provided",
        ".*You defined a `validation_step` but have no `val_dataloader`",
        ".*`training_step` returned `None`",
    )
]


@pytest.fixture(autouse=True)
def _small_and_quiet():
    threads, log = torch.get_num_threads(), logging.getLogger("lightning.pytorch")
    level = log.level
    torch.set_num_threads(1)
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(level)
    torch.set_num_threads(threads)


class Loader:
    """Batches in a fixed order, with a place that a checkpoint keeps."""

    def __init__(self, count: int = BATCHES, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 4, 4, generator=generator)
        y = x.sum(2, keepdim=True) + torch.randn(count, 4, 1, generator=generator)
        self.batches = list(zip(x, y, strict=True))
        self.start = self.served = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        start, self.start = self.start, 0
        for index in range(start, len(self)):
            self.served = index + 1
            yield self.batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"start": self.served % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["start"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def loss_of(net: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.mse_loss(net(batch[0]), batch[1])


class Module(pl.LightningModule):
    """A small regression; `rates` are those that the optimizer steps with, one a batch."""

    def __init__(self, *monitor: str, rate: Any = RATE, compose: Any = None, **how: Any) -> None:
        super().__init__()
        self.net, self.rate, self.compose = network(), rate, compose or (lambda _, inner: inner)
        self.how, self.rates = (monitor, how), []

    def training_step(self, batch: Any, index: int) -> Any:
        self.rates.append(float(self.optimizers().param_groups[0]["lr"]))
        return self.spoil(loss_of(self.net, batch))

    def spoil(self, loss: torch.Tensor) -> Any:
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", loss_of(self.net, batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.rate, momentum=0.5)
        self.greedy = GreedyLR(optimizer, **RULE)
        monitor, how = self.how
        return configure(self, optimizer, self.compose(optimizer, self.greedy), *monitor, **how)

    @property
    def weights(self) -> list[float]:
        return nn.utils.parameters_to_vector(self.parameters()).tolist()


def trainer(*callbacks: Any, **more: Any) -> Any:
    options = {"max_epochs": EPOCHS, "logger": False, "accelerator": "cpu"}
    options |= {"enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks)}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(callbacks=list(callbacks), **options | more)


def fit(module: Module, *callbacks: Any, checkpoint: Any = None, val: bool = True, **more: Any):
    loaders = (Loader(), Loader(3, 1) if val else None)
    trainer(*callbacks, **more).fit(module, *loaders, ckpt_path=checkpoint)
    return module


def rose_and_fell(rates: list[float]) -> bool:
    moves = [after - before for before, after in itertools.pairwise(rates)]
    return max(moves, default=0.0) > 0 > min(moves, default=0.0)


def by_hand(
    accumulate: int = 1,
    validate_every: int = 0,
    epoch: bool = False,
    compose: Any = lambda _, inner: inner,
    rate: Any = RATE,
    spoil: Any = lambda loss: loss,
) -> tuple[list[float], list[float]]:
    """Train in a loop as anybody writes it; return the rates of the batches and the weights."""
    net, rates, losses = network(), [], []
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.5)
    inner = GreedyLR(optimizer, **RULE, missing="hold")
    outer = compose(optimizer, inner)
    for _ in range(EPOCHS):
        for count, batch in enumerate(Loader().batches, start=1):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            loss = spoil(loss_of(net, batch))
            losses.append(loss.item())
            (loss / accumulate).backward()
            if count % accumulate == 0 or count == BATCHES:
                optimizer.step()
                optimizer.zero_grad()
                if not validate_every:
                    inner.observe(sum(losses) / len(losses))
                losses = []
                if not epoch:
                    outer.step()
            if validate_every and count % validate_every == 0:
                with torch.no_grad():
                    value = sum(loss_of(net, each) for each in Loader(3, 1).batches) / 3
                inner.observe(float(value))
                if epoch:
                    outer.step()
    return rates, nn.utils.parameters_to_vector(net.parameters()).tolist()


# -- the same as a loop by hand -----------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_each_step_decides_on_its_training_loss_as_a_loop_by_hand(accumulate: int):
    module = fit(Module(), accumulate_grad_batches=accumulate)
    assert (module.rates, module.weights) == by_hand(accumulate)
    assert rose_and_fell(module.rates)
    assert module.greedy.last_epoch == module.trainer.global_step, "one step an optimizer step"
    assert module.greedy.last_epoch == EPOCHS * math.ceil(BATCHES / accumulate)


@pytest.mark.parametrize("every", [BATCHES, 3], ids=["an epoch", "3 batches"])
def test_each_validation_decides_on_its_metric_as_a_loop_by_hand(every: int):
    options = {} if every == BATCHES else {"val_check_interval": every}
    module = fit(Module("val_loss"), **options)
    assert (module.rates, module.weights) == by_hand(validate_every=every, epoch=True)
    assert rose_and_fell(module.rates)
    assert module.greedy.last_epoch == EPOCHS * (BATCHES // every)


class Waits(Module):
    """Waits for significance, and is told by nobody but Lightning how long the run is."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.rate, momentum=0.5)
        self.greedy = GreedyLR(optimizer, criterion="significance")
        return configure(self, optimizer, self.greedy)


def test_the_run_s_length_ends_a_scheduler_that_waits_for_significance():
    module = fit(Waits(), accumulate_grad_batches=2)
    assert module.greedy.horizon == EPOCHS * math.ceil(BATCHES / 2)
    assert module.greedy.get_last_lr() == [0.0]
    assert module.rates[-1] > 0


class Decides(Module):
    """Names no criterion: the run's length decides."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.rate, momentum=0.5)
        self.greedy = GreedyLR(optimizer)
        monitor, how = self.how
        return configure(self, optimizer, self.greedy, *monitor, **how)


def test_the_run_s_length_decides_the_criterion_and_a_resumed_run_goes_on_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(criterion, "LEAST_METRICS", EPOCHS * BATCHES)
    saves = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=3)
    whole = fit(Decides(), saves)
    assert whole.greedy.criterion == "significance"
    assert whole.greedy.get_last_lr() == [0.0]
    for path in tmp_path.glob("*.ckpt"):
        again = fit(Decides(), checkpoint=path)
        assert again.greedy.criterion == "significance"
        assert again.rates == whole.rates[-len(again.rates) :]
        assert again.weights == whole.weights
    assert fit(Decides("val_loss")).greedy.criterion == "count"  # one metric an epoch
    assert fit(Decides(), max_epochs=EPOCHS - 1).greedy.criterion == "count"


def test_with_a_metric_a_schedule_may_count_steps():
    module = fit(Module("val_loss", interval="step"))
    assert (module.rates, module.weights) == by_hand(validate_every=BATCHES)
    assert rose_and_fell(module.rates)
    assert module.greedy.last_epoch == EPOCHS * BATCHES


def test_without_validation_the_metric_is_the_training_epoch_s():
    module = fit(Module("train_loss"), val=False)
    assert module.greedy.last_epoch == EPOCHS
    assert [step for step, _, _ in module.greedy.trace] == list(range(1, EPOCHS + 1))
    short = fit(Module("train_loss"), val=False, max_epochs=1, limit_train_batches=1)
    assert short.greedy.trace == [(1, loss_of(network(), Loader().batches[0]).item(), RATE)]


def test_epochs_without_validation_and_evaluations_outside_training_do_not_count():
    module = fit(Module("val_loss"), check_val_every_n_epoch=3, num_sanity_val_steps=2)
    before = module.greedy.state_dict()
    assert module.greedy.last_epoch == EPOCHS // 3
    module.trainer.validate(module, Loader(3, 1), verbose=False)
    assert module.greedy.state_dict() == before


def test_lightning_s_own_way_hands_over_no_loss():
    """The negative control: without `configure` a bare step has nothing to decide on."""

    class Plain(Module):
        def configure_optimizers(self) -> Any:
            inner = super().configure_optimizers()["lr_scheduler"]["scheduler"]
            self.trainer.callbacks.clear()
            inner.missing = "raise"
            return [inner.optimizer], [{"scheduler": inner, "interval": "step"}]

    with pytest.raises(MissingLoss):
        fit(Plain())


# -- hostile and unusual runs -------------------------------------------------------------------


def test_a_nan_loss_is_a_bad_step_and_no_more():
    class Spoilt(Module):
        def spoil(self, loss: torch.Tensor) -> Any:
            return loss + math.nan if len(self.rates) == 20 else loss  # its gradient is finite

    count = itertools.count(1)
    module = fit(Spoilt())
    rates, weights = by_hand(spoil=lambda loss: loss + math.nan if next(count) == 20 else loss)
    assert (module.rates, module.weights) == (rates, weights)
    assert rose_and_fell(rates[20:])
    assert all(map(math.isfinite, module.rates))


def test_a_batch_without_a_loss_holds_the_rate():
    class Gaps(Module):
        def spoil(self, loss: torch.Tensor) -> Any:
            return None if len(self.rates) in (1, 12) else loss

    rates = fit(Gaps()).rates
    assert rates[0] == rates[1]
    assert rates[11] == rates[12]
    assert rose_and_fell(rates)


def test_a_scaled_loss_is_heard_unscaled_and_a_skipped_step_is_none():
    class Overflows(Module):
        """At one batch, where the gradient of the scaled loss is infinite."""

        def spoil(self, loss: torch.Tensor) -> Any:
            return loss * 1e30 if len(self.rates) == 10 else loss

    def half(module: Module) -> list[float]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=10_000)
        trainer(plugins=[MixedPrecision("16-mixed", "cpu", scaler)]).fit(module, Loader())
        return [metric for _, metric, _ in module.greedy.trace]

    module, skipping = Module(), Overflows()
    heard, wanted = half(module), fit(Module()).greedy.trace
    assert heard[:5] == pytest.approx([metric for _, metric, _ in wanted[:5]], rel=1e-2)
    assert module.greedy.last_epoch == EPOCHS * BATCHES
    skipped = half(skipping)
    assert skipping.greedy.last_epoch == EPOCHS * BATCHES - 1
    assert skipped[:9] == heard[:9]
    assert skipped[9] > 1e29, "its loss counts for the next step"


def test_tensor_rates_decide_the_same():
    module = fit(Module(rate=torch.tensor(RATE, dtype=torch.float64)))
    wanted = fit(Module())
    assert module.rates == wanted.rates
    assert module.weights == pytest.approx(wanted.weights, rel=1e-5)


class Reads(TorchDispatchMode):
    """Counts the times that a value is brought to the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(("tensor", "reads"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_hearing_a_loss_reads_nothing_where_the_rate_is_a_tensor(
    tensor: bool, reads: int, accumulate: int
):
    rate = torch.tensor(RATE) if tensor else RATE
    greedy = GreedyLR(torch.optim.SGD(network().parameters(), rate))
    plugin = SimpleNamespace(scaler=torch.amp.GradScaler("cpu"))
    now = SimpleNamespace(accumulate_grad_batches=accumulate, precision_plugin=plugin)
    scaled = plugin.scaler.scale(torch.tensor(0.5, requires_grad=True) / accumulate)
    callback = ObserveCallback(greedy, [greedy], None, "step")
    callback.on_before_backward(now, None, scaled)  # brings the schedule to the rate's device
    with Reads() as mode:
        callback.on_before_backward(now, None, scaled)
    assert mode.count == reads, "with a Python rate the one read is seen"
    greedy.step()
    assert greedy.trace[-1][1] == pytest.approx(0.5, rel=1e-6)


# -- inside torch's compositions, and beside Lightning's parts ----------------------------------


def in_sequence(optimizer: Any, inner: GreedyLR) -> Any:
    first = lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=20)
    return lr_scheduler.SequentialLR(optimizer, [first, inner], milestones=[10])


def in_chain(optimizer: Any, inner: GreedyLR) -> Any:
    return lr_scheduler.ChainedScheduler([inner, lr_scheduler.StepLR(optimizer, 15, gamma=0.9)])


@pytest.mark.parametrize("compose", [in_sequence, in_chain])
def test_inside_torch_s_compositions_as_a_loop_by_hand(compose: Any):
    module = fit(Module(compose=compose))
    assert (module.rates, module.weights) == by_hand(compose=compose)
    assert rose_and_fell(module.rates[15:])
    assert module.rates != by_hand()[0]


def test_lightning_s_monitor_logs_the_rate():
    class Log(DummyLogger):
        lines: list[dict[str, float]] = []  # noqa: RUF012

        def log_metrics(self, metrics: Any, *args: Any, **kwargs: Any) -> None:
            self.lines.append(metrics)

    log = Log()
    module = fit(Module(), LearningRateMonitor("step"), logger=log, log_every_n_steps=1)
    assert [line["lr-SGD"] for line in log.lines if "lr-SGD" in line] == module.rates


def test_the_callback_stands_first_and_once():
    module = Module()
    one = trainer(pl.Callback(), ModelCheckpoint(save_top_k=0), max_epochs=1)
    for _ in range(2):
        one.fit(module, Loader())
        assert [type(c) for c in one.callbacks] == [ObserveCallback, pl.Callback, ModelCheckpoint]
        assert one.callbacks[0].outer is module.greedy
    assert Module().configure_optimizers()["lr_scheduler"]["interval"] == "step"  # no trainer


# -- checkpoints --------------------------------------------------------------------------------

MODES: dict[str, dict[str, Any]] = {
    "loss": {},
    "metric an epoch": {"monitor": "val_loss"},
    "metric in steps": {"monitor": "val_loss", "interval": "step"},
    "in a sequence": {"compose": in_sequence},
}


def saved(folder: Path, module: Module, **when: Any) -> tuple[Module, list[Path]]:
    """Train, and keep a checkpoint whenever `when` says."""
    keep = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **when)
    fit(module, keep)
    return module, sorted(folder.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", [{}, {"save_on_train_epoch_end": False}])
def test_from_the_end_of_each_epoch_it_goes_on_to_the_bit(mode: str, when: Any, tmp_path: Path):
    whole, paths = saved(tmp_path, Module(**MODES[mode]), **when)
    assert len(paths) == EPOCHS
    moved = False
    for epoch, path in enumerate(paths[:-1], start=1):
        again = fit(Module(**MODES[mode], rate=0.3), checkpoint=path)
        assert again.rates == whole.rates[epoch * BATCHES :], path
        assert again.weights == whole.weights, path
        assert again.greedy.events == whole.greedy.events
        moved = moved or rose_and_fell(again.rates)
    assert moved, "the rate neither rose nor fell after a restore"


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("mode", ["loss", "in a sequence"])
def test_from_the_middle_of_an_epoch_it_goes_on_to_the_bit(
    mode: str, accumulate: int, tmp_path: Path
):
    when = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=5)
    how = {"accumulate_grad_batches": accumulate}
    whole = fit(Module(**MODES[mode]), when, **how)
    paths = list(tmp_path.glob("*.ckpt"))
    assert len(paths) >= 6
    lengths = set()
    for path in paths:
        again = fit(Module(**MODES[mode]), checkpoint=path, **how)
        left = len(whole.rates) - len(again.rates)
        assert again.rates == whole.rates[left:], path
        assert again.weights == whole.weights, path
        lengths.add(len(again.rates) % BATCHES)
    assert len(lengths - {0}) >= 3, "no checkpoint lay inside an epoch"


def test_a_checkpoint_is_read_without_pickle_and_holds_all_the_memory(tmp_path: Path):
    """Negative control: with a new scheduler's state in it the run goes another way."""
    whole, paths = saved(tmp_path, Module())
    state = torch.load(paths[2], weights_only=True)
    assert state["lr_schedulers"][0]["last_epoch"] == 3 * BATCHES
    fresh = fit(Module(), max_epochs=1, limit_train_batches=0)
    state["lr_schedulers"] = [fresh.greedy.state_dict()]
    torch.save(state, tmp_path / "forgetful.ckpt")
    again = fit(Module(), checkpoint=tmp_path / "forgetful.ckpt")
    assert again.rates != whole.rates[3 * BATCHES :]


def test_lightning_s_own_way_of_passing_a_metric_loses_a_decision(tmp_path: Path):
    """Why `configure` does not use it: the second negative control of the resume tests."""

    class Plateau(Module):
        def configure_optimizers(self) -> Any:
            inner = super().configure_optimizers()["lr_scheduler"]["scheduler"]
            self.trainer.callbacks = self.trainer.callbacks[1:]
            how = {"scheduler": inner, "reduce_on_plateau": True, "monitor": "val_loss"}
            return {"optimizer": inner.optimizer, "lr_scheduler": how}

    whole, paths = saved(tmp_path, Plateau("val_loss"))
    assert whole.rates == by_hand(validate_every=BATCHES, epoch=True)[0], "uninterrupted it is fine"
    resumed = [fit(Plateau("val_loss"), checkpoint=path) for path in paths[:-1]]
    assert all(again.greedy.last_epoch == EPOCHS - 1 for again in resumed)
    assert any(again.weights != whole.weights for again in resumed)


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("los",), "unknown monitor 'los': .*known: val_loss"),
        (("val_los",), "did you mean 'val_loss'"),
        (("val_los", "step"), "did you mean 'val_loss'"),
    ],
)
def test_a_metric_that_nobody_logs_is_named_after_the_first_validation(how: Any, words: str):
    monitor, *interval = how
    module = Module(monitor, **({"interval": interval[0]} if interval else {}))
    with pytest.raises(UnknownName, match=words):
        fit(module)
    assert len(module.rates) == BATCHES
    with pytest.raises(UnknownName, match="known: train_loss"):
        fit(Module("val_loss"), val=False)


def arguments() -> list[Any]:
    optimizer = torch.optim.SGD(network().parameters(), 0.1)
    return [pl.LightningModule(), optimizer, GreedyLR(optimizer)]


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        ({0: 3}, WrongType, "module must be a lightning.pytorch.LightningModule, got int"),
        ({0: network()}, WrongType, "module must be .* got Sequential: pass self first"),
        ({1: None}, WrongType, "optimizer must be a torch.optim.Optimizer, got NoneType"),
        ({2: None}, WrongType, "scheduler must be a ratewise scheduler, or"),
        ({2: "constant"}, WrongType, "scheduler must be .* got LinearLR"),
        ({3: 5}, WrongType, "monitor must be a metric's name, got int"),
        ({"interval": "epochs"}, UnknownName, "did you mean 'epoch'. known: epoch, step"),
        (
            {"interval": "epoch"},
            InvalidArgument,
            "monitor must be .* decide_every=k of the scheduler",
        ),
        ({"manual": True}, InvalidArgument, r"call scheduler.step\(loss\) after optimizer.step"),
    ],
)
def test_arguments_are_checked(spoil: dict[Any, Any], error: type, words: str):
    given = [*arguments(), None]
    given[0].automatic_optimization = not spoil.pop("manual", False)
    interval = spoil.pop("interval", None)
    for index, value in spoil.items():
        given[index] = lr_scheduler.LinearLR(given[1]) if value == "constant" else value
    with pytest.raises(error, match=words):
        configure(*given, interval=interval)


def test_what_is_not_installed_is_named():
    code = "import sys; sys.modules['lightning'] = None; import ratewise.integrations.lightning"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "MissingExtra" in last
    assert "needs 'lightning', which is not installed: pip install 'ratewise[lightning]'" in last
