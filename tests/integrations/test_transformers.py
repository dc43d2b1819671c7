"""Under the real Trainer: the loss is heard, and Trainer's own step decides."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import transformers
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState
from tests.integrations.trainer_runs import (
    RATE,
    RULE,
    STEPS,
    Run,
    Tiny,
    by_hand,
    dry,
    rose_and_fell,
    rows,
)
from torch.optim.lr_scheduler import LinearLR, SequentialLR
from transformers import TrainerCallback

from ratewise import GreedyLR
from ratewise.errors import InvalidArgument, MissingExtra, MissingLoss, UnknownName, WrongType
from ratewise.integrations.transformers import ObserveCallback


@pytest.fixture(autouse=True)
def _small_and_apart():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


# -- the training loss ----------------------------------------------------------------------


@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_rates_and_weights_are_those_of_a_hand_written_loop_without_evaluation(
    tmp_path: Path, tensor: bool
):
    def rate() -> float | torch.Tensor:
        return torch.tensor(RATE, dtype=torch.float64) if tensor else RATE

    run = Run(tmp_path, rate=rate()).train()
    assert run.trainer.eval_dataset is None
    assert rose_and_fell(run.rates)
    assert (run.rates, run.weights) == by_hand(run, rate())
    assert run.logged("learning_rate") == run.rates
    assert run.scheduler.last_epoch == STEPS
    assert not run.model._forward_hooks
    assert {type(rate) for rate in run.logged("learning_rate")} == {float}


class StepsByItself(TrainerCallback):
    """The trap: a callback that steps a scheduler that Trainer does not have."""

    def __init__(self, scheduler: Any, model: Tiny) -> None:
        self.scheduler, self.model = scheduler, model
        self.chosen: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.scheduler.step(self.model.losses[-1])
        self.chosen.append(self.scheduler.get_last_lr()[0])


def test_stepping_from_a_callback_alone_is_overwritten_and_ours_names_the_mistake(tmp_path: Path):
    run = Run(tmp_path)
    run.trainer.lr_scheduler = None  # what Trainer has if it is not given any
    run.trainer.remove_callback(run.callback)
    naive = StepsByItself(run.scheduler, run.model)
    run.trainer.add_callback(naive)
    run.train()
    changed = {event.step for event in run.scheduler.events}  # each change lasts a single step
    assert rose_and_fell(naive.chosen)
    assert len(changed) < STEPS / 2
    for step in set(range(STEPS)) - changed:
        assert run.rates[step] == pytest.approx(RATE * (1 - step / STEPS))
    run = Run(tmp_path)
    run.trainer.lr_scheduler = None
    with pytest.raises(InvalidArgument, match=r"got LambdaLR: pass Trainer\(..., optimizers="):
        run.train()


def test_the_optimizer_that_trainer_makes_can_be_kept(tmp_path: Path):
    run = Run(tmp_path, learning_rate=RATE)
    run.trainer.optimizer = None
    run.trainer.remove_callback(run.callback)
    run.trainer.create_optimizer()
    run.trainer.lr_scheduler = GreedyLR(run.trainer.optimizer, **RULE)
    run.trainer.add_callback(ObserveCallback(run.trainer.lr_scheduler))
    run.train()
    assert len(run.trainer.optimizer.param_groups) == 2  # with and without weight decay
    assert run.rates == dry(run.model.losses)
    assert len(set(run.rates)) > 1


@pytest.mark.parametrize("wrap", ["accelerate", "sequential"])
def test_a_scheduler_inside_accelerate_s_wrapper_or_a_sequence_is_recognised(
    tmp_path: Path, wrap: str
):
    run = Run(tmp_path)
    if wrap == "accelerate":
        prepared = run.trainer.accelerator.prepare(run.optimizer, run.scheduler)
        run.trainer.optimizer, run.trainer.lr_scheduler = prepared
        assert isinstance(run.trainer.lr_scheduler, AcceleratedScheduler)
    else:
        ramp = LinearLR(run.optimizer, 0.25, total_iters=4)
        run.trainer.lr_scheduler = SequentialLR(run.optimizer, [ramp, run.scheduler], [4])
    run.train()
    if wrap == "accelerate":
        assert run.rates == dry(run.model.losses)
    else:
        ramp = [RATE * part / 16 for part in (4, 7, 10, 13, 16)]
        assert run.rates[:5] == pytest.approx(ramp)
        assert rose_and_fell(run.rates[4:])


# -- gradient accumulation ------------------------------------------------------------------


def classifier() -> Any:
    """A BERT: Trainer passes it num_items_in_batch, and it takes no notice."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 16}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes["problem_type"] = "single_label_classification"  # else found out at the first batch
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))


def language_model() -> Any:
    """A GPT-2: its loss is a sum divided by num_items_in_batch."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    sizes |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


WORDS = torch.arange(1, 9)
SAME_ROWS = {
    "tiny": (Tiny, {"x": torch.ones(4), "labels": torch.tensor(1.0)}),
    "classifier": (classifier, {"input_ids": WORDS, "labels": torch.tensor(1)}),
    "language model": (language_model, {"input_ids": WORDS, "labels": WORDS}),
}


@pytest.mark.parametrize("kind", SAME_ROWS)
def test_accumulation_decides_once_a_step_and_short_steps_do_not_jump(tmp_path: Path, kind: str):
    build, row = SAME_ROWS[kind]
    data = [row] * 40  # ten micro-batches an epoch: steps of 4, 4 and 2
    options = {"gradient_accumulation_steps": 4, "max_steps": 9}
    run = Run(tmp_path, build(), rate=1e-12, data=data, **options)  # the loss stays what it is
    observed: list[float] = []
    observe = run.scheduler.observe
    run.scheduler.observe = lambda loss: (observed.append(float(loss)), observe(loss))
    run.train()
    assert run.scheduler.last_epoch == run.trainer.state.global_step == 9
    logged = run.logged("loss")
    if kind != "tiny":  # num_items_in_batch is passed: the short steps are left out
        assert (logged[2] == pytest.approx(logged[0], rel=1e-5)) == (kind == "language model")
        del logged[2::3]
    assert observed == pytest.approx(logged, rel=1e-5)
    assert observed == pytest.approx([observed[0]] * len(observed), rel=1e-5)


def test_under_accumulation_each_decision_is_on_the_mean_of_the_micro_batches(tmp_path: Path):
    run = Run(tmp_path, gradient_accumulation_steps=3, rule={"window": 1}, data=rows(36))
    run.train()
    losses = run.model.losses
    means = [sum(losses[i : i + 3]) / 3 for i in range(0, 3 * STEPS, 3)]
    assert run.rates == dry(means, window=1)
    assert rose_and_fell(run.rates)
    assert run.rates != dry(losses[2::3], window=1)  # the control: the last micro-batch alone


# -- other sources --------------------------------------------------------------------------


def squared(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    return ((outputs["logits"] - labels) ** 2).sum() / num_items_in_batch


def without_loss(folder: Path, **options: Any) -> Run:
    trainer = {"compute_loss_func": squared}
    return Run(folder, Tiny(loss=False), trainer=trainer, **options)


class Looks(TrainerCallback):
    """Asks the model for a loss outside training, which is nobody's business."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        kwargs["model"].eval()(torch.ones(2, 4), torch.ones(2))["loss"]


def test_a_loss_that_the_model_does_not_have_is_taken_from_trainer_s_log(tmp_path: Path):
    run = without_loss(tmp_path)
    run.trainer.add_callback(Looks())
    run.train()
    # logged after the step, decided on at the next
    assert run.rates == dry([None, *run.logged("loss")])[:-1]
    assert rose_and_fell(run.rates)


def test_a_logged_loss_that_comes_seldom_is_warned_of_and_none_at_all_is_named(tmp_path: Path):
    run = without_loss(tmp_path, logging_steps=4)
    with pytest.warns(UserWarning, match="every 4 steps; pass logging_strategy='steps'"):
        run.train()
    values: list[Any] = [None] * STEPS
    values[4::4] = run.logged("loss")[:-1]
    assert run.rates == dry(values)
    run = without_loss(tmp_path, logging_strategy="no")
    with pytest.raises(MissingLoss, match="logging_strategy='steps', logging_steps=1"):
        run.train()
    assert run.trainer.state.global_step == 0


def test_a_model_that_returns_tuples_is_heard(tmp_path: Path):
    class Tuples(Tiny):
        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            return tuple(super().forward(x, labels).values())

    run = Run(tmp_path, Tuples()).train()
    assert run.rates == dry(run.model.losses)


def test_one_nan_does_not_poison(tmp_path: Path):
    run = Run(tmp_path, Tiny(spoil=8)).train()
    assert math.isnan(run.model.losses[8])
    assert run.rates == dry(run.model.losses)
    assert rose_and_fell(run.rates[10:])
    # The control: transformers' own, which never raises the rate again.
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    bounds = {"min_lr": RATE / 10, "max_lr": RATE * 10}
    theirs = transformers.optimization.GreedyLR(
        optimizer, factor=0.5, patience=1, smooth=True, window_size=2, **bounds
    )
    after = []
    for loss in run.model.losses:
        theirs.step(loss)
        after.append(optimizer.param_groups[0]["lr"])
    assert after[9:] == sorted(after[9:], reverse=True)


def test_a_compiled_model_is_heard_and_not_compiled_again(tmp_path: Path):
    words = torch.randint(1, 50, (16, 8), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row[0] % 2} for row in words]
    options = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 12}
    options |= {"gradient_accumulation_steps": 2, "rule": {"patience": 0}}
    with torch._dynamo.config.patch(error_on_recompile=True):  # puts the setting back whole
        run = Run(tmp_path, classifier(), data=data, **options).train()
    assert run.rates == dry(run.logged("loss"), patience=0)
    assert rose_and_fell(run.rates)


# -- evaluation metrics ---------------------------------------------------------------------


def closeness(prediction: Any) -> dict[str, float]:
    return {"closeness": float(-abs(prediction.predictions - prediction.label_ids).mean())}


@pytest.mark.parametrize(
    ("metric", "name", "mode"),
    [("eval_loss", "eval_loss", "min"), ("closeness", "eval_closeness", "max")],
)
def test_an_evaluation_metric_is_decided_on_at_the_first_step_after_it(
    tmp_path: Path, metric: str, name: str, mode: str
):
    trainer = {"eval_dataset": rows(12), "compute_metrics": closeness}
    rule = {"mode": mode, "window": 1, "patience": 0}
    options = {"eval_strategy": "steps", "eval_steps": 2, "metric": metric, "rule": rule}
    run = Run(tmp_path, rate=0.1, trainer=trainer, **options)
    run.trainer.evaluate()  # outside train: does not count
    run.train()
    values: list[Any] = [None] * (STEPS + 1)
    values[2::2] = run.logged(name)
    assert run.rates == dry(values[:STEPS], 0.1, **rule)
    assert rose_and_fell(run.rates)
    assert not run.model._forward_hooks


def test_a_metric_of_one_of_several_data_sets_is_found(tmp_path: Path):
    trainer = {"eval_dataset": {"near": rows(8), "far": rows(12)}}
    evaluate = {"eval_strategy": "epoch", "metric": "eval_far_loss", "rule": {"window": 1}}
    run = Run(tmp_path, trainer=trainer, max_steps=50, **evaluate).train()
    values: list[Any] = [None] * 51
    values[10::10] = run.logged("eval_far_loss")
    assert run.rates == dry(values[:50], window=1)
    assert len(set(run.rates)) > 1


@pytest.mark.parametrize("evaluate", [{"eval_steps": 5}, {"eval_steps": STEPS}])
def test_an_unknown_metric_is_named_after_the_first_evaluation(tmp_path: Path, evaluate: Any):
    trainer = {"eval_dataset": rows(8), "compute_metrics": closeness}
    evaluate = {"eval_strategy": "steps", **evaluate}
    run = Run(tmp_path, metric="eval_closenes", trainer=trainer, **evaluate)
    with pytest.raises(UnknownName, match="'eval_closenes': did you mean 'eval_closeness'"):
        run.train()
    assert run.trainer.state.global_step == evaluate["eval_steps"]


def test_an_evaluation_metric_without_evaluations_is_named_before_training(tmp_path: Path):
    run = Run(tmp_path, metric="eval_loss", trainer={"eval_dataset": rows(8)})
    with pytest.raises(InvalidArgument, match="eval_strategy must be 'steps' or 'epoch', got 'no'"):
        run.train()
    assert run.trainer.state.global_step == 0


# -- what is wrong is named -----------------------------------------------------------------


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "ratewise.integrations.transformers")
    with pytest.raises(MissingExtra, match=r"'transformers'.*'ratewise\[transformers\]'"):
        importlib.import_module("ratewise.integrations.transformers")


def test_what_is_no_scheduler_of_ours_and_no_name_are_named():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    with pytest.raises(WrongType, match="scheduler must be a ratewise scheduler, got LinearLR"):
        ObserveCallback(LinearLR(optimizer))
    with pytest.raises(WrongType, match="metric must be a name, got float"):
        ObserveCallback(GreedyLR(optimizer), 0.5)
