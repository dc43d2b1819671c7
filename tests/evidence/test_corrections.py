"""Other forms of the online correction: what they see is what a loop by hand sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evidence.results import Results
from evidence.update_ratio import corrections, plan
from evidence.update_ratio.corrections import ALONE, FORMS, UNITS
from evidence.update_ratio.plan import Unit
from evidence.update_ratio.watched import FREE, KINDS, WHOLE, Corrected, Watched
from ratewise import simulate
from ratewise.learning.tasks import JUDGING
from ratewise.rules import online
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import UpdateRatio
from ratewise.simulate.stack import Stack

TINY = Unit("mlp", "sgd", 40, 1)


def test_no_form_is_tried_on_data_that_judge():
    assert not {plan.data_set(unit.task) for unit in UNITS} & set(JUDGING)
    assert {unit.optimizer for unit in UNITS} == {"sgd", "adamw"}
    assert any(options.get("random") for options in FORMS.values()), "a negative control"


def test_a_unit_has_a_row_a_form_and_the_page_s_table_follows(tmp_path: Path):
    results = Results(tmp_path / "r.parquet")
    name = next(iter(corrections.wanted([TINY])))
    results.add(name, corrections.made(TINY))
    found = results.of(name)
    assert len(found) == (1 + len(FORMS)) * len(corrections.SHARES) * len(corrections.SEEDS)
    assert corrections.row(TINY).trainings == len(found)
    rows = corrections.rows(results, [TINY])
    assert len(rows) == len(FORMS) * len(corrections.SHARES)
    assert rows[0][:4] == ["sgd, fresh data", "1", "whole step", "1"]
    ends = {(x.method, x.setting, x.seed): x.losses[1] for x in found}
    alone = {key[1:]: x for key, x in ends.items() if key[0] == ALONE}
    moved = {key[0] for key, x in ends.items() if x != alone[key[1:]]}
    assert moved == set(FORMS), "each form changes something"
    assert corrections.rows(Results(tmp_path / "none.parquet"), [TINY]) == []


def test_without_a_correction_it_is_the_rule_as_it_is():
    task = plan.task(TINY)
    rule = UpdateRatio(UpdateRatioConfig(ratio=0.02))
    plain, wrapped = (
        simulate.run(task, "sgd", x, runs=2, steps=30, lr=0.01, seed=[3, 4])
        for x in (rule, Corrected(rule))
    )
    assert plain.final.tolist() == wrapped.final.tolist()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_cosines_are_those_by_hand(momentum: float):
    """Without momentum the whole step is the momentum-free one; with it they differ."""
    task = replace(plan.task(TINY), held_out=16)

    def optimizer(params: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr, momentum=momentum)

    stack = Stack(task, optimizer, [1, 2])
    data = [task.data_for(seed) for seed in (1, 2)]
    batches = [
        tuple(torch.stack([one[k][8 * i : 8 * i + 8] for one in data]) for k in range(2))
        for i in range(4)
    ]
    watched = Watched(stack, lambda: batches[3], every=1)
    watched._steps = online.FIRST
    factor, last = torch.full((stack.tensors, 2), 0.1), {}
    for step in range(3):
        watched.losses(batches[3])
        held_out = stack.backward(stack.losses(batches[3])).clone()
        gradient = watched.backward(watched.losses(batches[step])).clone()
        for row, kind in enumerate(KINDS):
            way = last.get(WHOLE if kind.endswith("whole") else FREE)
            mine = held_out if "held-out" in kind else gradient
            wanted = 0.0 if way is None else -torch.cosine_similarity(mine, way, dim=1)
            expected = torch.zeros(2) + wanted
            torch.testing.assert_close(watched.cosines[row].float(), expected, atol=1e-5, rtol=0)
        before = stack.flat.detach().clone()
        watched.step(torch.ones(2), lambda measure: factor)
        last = {WHOLE: stack.flat.detach() - before, FREE: -0.1 * gradient}
    same = torch.allclose(watched.cosines[0], watched.cosines[1], atol=1e-4)
    assert same == (momentum == 0.0)
