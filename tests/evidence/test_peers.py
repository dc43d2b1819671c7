"""Optimizers that need no rate: each run is a pair of the simulator's, and learns."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest

from evidence import peers
from evidence.cells import Cell, task
from ratewise import simulate
from ratewise.errors import MissingExtra, UnknownName

ADAM = Cell("bent teachers", "mlp", 16, 100, "adamw")
CONTROL = "adamw 1e-3 linear"
needs_peers = pytest.mark.skipif(not peers.installed(), reason="needs the group 'evidence'")


@pytest.mark.parametrize("lr", [None, 0.01])
def test_the_control_is_the_simulators_run(lr: float | None):
    made, seed = task(ADAM, judging=True), 7
    ours = peers.run(made, CONTROL, steps=40, seed=seed, every=7, lr=lr)
    rate = lr or 1e-3
    theirs = simulate.run(made, "adamw", "linear", runs=1, steps=40, lr=rate, seed=[seed], every=7)
    assert ours.step.tolist() == theirs.step.tolist()
    for name in ("loss", "lr", "initial", "final", "held_out"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=0)


@needs_peers
@pytest.mark.parametrize("method", peers.METHODS)
def test_a_peer_is_better_than_the_untrained_model(method: str):
    found = peers.run(task(ADAM, judging=True), method, steps=100, seed=101)
    assert found.diverged_at[0] == 0
    assert found.final[0] < found.initial[0]
    assert found.held_out[0] < found.initial[0]
    assert np.isnan(found.update_ratio).all()


@needs_peers
def test_averaged_weights_are_what_is_evaluated(monkeypatch: pytest.MonkeyPatch):
    made = task(ADAM, judging=True)
    ours = peers.run(made, "schedule-free", steps=60, seed=101)
    monkeypatch.setattr(peers._Loop, "_resting", lambda self: contextlib.nullcontext())
    others = peers.run(made, "schedule-free", steps=60, seed=101)
    assert np.array_equal(ours.loss, others.loss)
    assert ours.initial == others.initial
    assert ours.final != others.final


def test_a_run_ends_at_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch):
    wild = replace(peers.named(CONTROL), build=attrgetter("SGD"), settings={"lr": 1e30})
    monkeypatch.setitem(peers.METHODS, CONTROL, wild)
    found = peers.run(task(ADAM, judging=True), CONTROL, steps=20, seed=101)
    assert 1 < found.diverged_at[0] < 20
    assert found.diverged().all()
    assert np.isnan(found.loss[0, -1])


@pytest.mark.parametrize("method", [name for name in peers.METHODS if name != CONTROL])
def test_an_absent_package_is_named(method: str, monkeypatch: pytest.MonkeyPatch):
    module = peers.named(method).module
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module}.*--group evidence"):
        peers.run(task(ADAM, judging=True), method, steps=2, seed=1)
    assert not peers.installed()


def test_a_peer_that_does_not_exist_is_told_so():
    with pytest.raises(UnknownName, match="unknown peer 'prodigi': did you mean 'prodigy'"):
        peers.run(task(ADAM, judging=True), "prodigi", steps=2, seed=1)
