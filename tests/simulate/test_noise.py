"""Noise: its signals, and what they do to the seen loss, to gradients and to data."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import OPTIMIZERS, off, regression
from torch import Tensor

from ratewise.rules.greedy_config import GreedyConfig
from ratewise.simulate import Noise, run
from ratewise.simulate.disturb import Disturbance
from ratewise.simulate.noise import DEFAULT_STRENGTH, KINDS, PLACES, signal
from ratewise.simulate.order import DataOrder
from ratewise.simulate.trajectories import PER_STEP

NOISY = [kind for kind in KINDS if kind != "none"]
BY_CHANCE = ["gaussian", "random-spike", "plateau", "oscillating", "burst"]
SGD = OPTIMIZERS["sgd"]
QUICK = GreedyConfig(factor=0.7, patience=0, window=1, reference="previous", threshold=0.0)


def equal(first: Any, second: Any) -> bool:
    names = (*PER_STEP, "initial", "final", "diverged_at")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


def runs_of_ones(signal: np.ndarray) -> list[int]:
    """Return the lengths of the stretches that are not 0, those cut off at the ends left out."""
    edges = np.flatnonzero(np.diff((signal != 0).astype(int)))
    edges = edges[1:] if signal[0] != 0 else edges
    return [int(b - a) for a, b in zip(edges[::2], edges[1::2], strict=False)]


def test_there_are_nine_kinds_and_three_places():
    assert len(KINDS) == 9
    assert PLACES == ("loss", "gradient", "data")
    assert {place: Noise("drift", place).strength for place in PLACES} == DEFAULT_STRENGTH


def test_signals_that_owe_nothing_to_chance():
    assert not signal("none", 1, 200).any()
    spikes = signal("periodic-spike", 1, 200)
    assert np.flatnonzero(spikes).tolist() == [49, 99, 149, 199]  # the 50th step, the 100th, ...
    assert set(spikes) == {0.0, 10.0}
    assert signal("drift", 1, 300) == pytest.approx(np.linspace(0, 3, 300, endpoint=False))
    assert set(signal("adversarial", 1, 200)) == {1.0}
    for kind in {*KINDS} - {*BY_CHANCE}:
        assert np.array_equal(signal(kind, 1, 200), signal(kind, 2, 200))


def test_signals_by_chance():
    many = {kind: np.stack([signal(kind, seed, 3000) for seed in range(30)]) for kind in BY_CHANCE}
    assert abs(many["gaussian"].mean()) < 0.02
    assert many["gaussian"].std() == pytest.approx(1, abs=0.02)
    assert set(np.unique(many["random-spike"])) == {0.0, 10.0}
    assert (many["random-spike"] > 0).mean() == pytest.approx(0.02, abs=0.003)
    assert set(np.unique(many["plateau"])) == {0.0, 1.0}
    assert many["plateau"].mean() == pytest.approx(20 / 60, abs=0.005)
    assert {length for row in many["plateau"] for length in runs_of_ones(row)} == {20}
    inside = many["burst"] != 0
    assert inside.mean() == pytest.approx(1 - 0.98**10, abs=0.015)
    assert many["burst"][inside].std() == pytest.approx(3, abs=0.05)
    assert min(length for row in many["burst"] for length in runs_of_ones(row)) == 10
    wave = many["oscillating"]
    assert np.abs(wave).max() == pytest.approx(2, abs=1e-3)
    assert np.allclose(wave[:, :2960], wave[:, 40:])
    assert np.allclose(wave[:, :2980], -wave[:, 20:])
    for kind, rows in many.items():
        assert len({row.tobytes() for row in rows[:10]}) > 5, f"{kind}: each run has its own"
        assert np.array_equal(rows[3], signal(kind, 3, 3000))


def test_all_kinds_are_about_one_in_size():
    for kind in NOISY:
        size = np.mean([np.sqrt(np.mean(signal(kind, seed, 600) ** 2)) for seed in range(20)])
        assert 0.5 < size < 2, kind


def open_loop(noise: Any, rule: Any = "cosine", **options: Any) -> Any:
    return run(
        regression(),
        SGD,
        rule,
        **{"runs": 3, "steps": 120, "lr": 0.1, "chunk": 3, **options, "noise": noise},
    )


@pytest.mark.parametrize("kind", NOISY)
def test_on_the_loss_it_is_seen_and_not_felt(kind):
    clean, noisy = open_loop(None), open_loop(Noise(kind, strength=0.2))
    for name in ("loss", "lr", "grad_norm", "update_ratio", "initial", "final"):
        assert np.array_equal(getattr(clean, name), getattr(noisy, name))
    assert np.array_equal(clean.seen, clean.loss)
    if kind not in ("plateau", "adversarial"):
        n = np.stack([signal(kind, seed, 120) for seed in noisy.seeds])
        expected = noisy.loss + 0.2 * noisy.loss[:, :1] * n
        assert off(noisy.seen, expected) < 1e-12
    assert (noisy.seen != noisy.loss).any(axis=1).all()


def test_a_plateau_holds_the_seen_loss():
    result = open_loop("plateau")
    for row, seed in enumerate(result.seeds):
        still = signal("plateau", seed, 120) > 0
        held = result.loss[row, 0]
        for step in range(120):
            held = held if still[step] and step else result.loss[row, step]
            assert result.seen[row, step] == held
        assert still.any()


def test_an_adversary_makes_an_improving_loss_look_worse():
    result = open_loop(Noise("adversarial", strength=0.2))
    trend = np.sign(np.diff(result.loss, axis=1, prepend=result.loss[:, :1]))
    expected = result.loss - 0.2 * result.loss[:, :1] * trend
    assert off(result.seen, expected) < 1e-12
    assert {-1, 1} <= set(trend.flat)


@pytest.mark.parametrize("kind", NOISY)
def test_a_rule_that_looks_reacts(kind):
    clean, noisy = open_loop(None, QUICK), open_loop(Noise(kind, strength=0.5), QUICK)
    assert not np.array_equal(clean.lr, noisy.lr)
    assert np.array_equal(clean.loss[:, 0], noisy.loss[:, 0])


@pytest.mark.parametrize("place", PLACES)
def test_every_rule_meets_the_same_perturbation(place):
    """Pairs: all is equal at the first step, and the noise on the loss is at every one."""
    rules = ["constant", QUICK, "plateau", "cosine"]
    options: dict[str, Any] = {"runs": 4, "chunk": 4, "seed": [6] * 4}
    result = open_loop([Noise("gaussian", place, 0.5)] * 4, rules, **options)
    for name in ("loss", "seen", "grad_norm", "update_ratio"):
        assert np.ptp(getattr(result, name)[:, 0]) < 1e-6
    if place == "loss":
        n = signal("gaussian", 6, 120)
        for row in range(4):
            assert off(result.seen[row] - result.loss[row], 0.5 * result.loss[row, 0] * n) < 1e-6
    assert len(set(result.lr[:, -1])) > 2
    clean = open_loop(None, rules, **options)
    changed = "seen" if place == "loss" else "grad_norm"
    assert abs(clean.__dict__[changed][0, 0] / result.__dict__[changed][0, 0] - 1) > 1e-3


def at_work(noises: list[Noise], steps: int = 100, width: int = 40, size: int = 64) -> Any:
    """Return noise on so many runs, with seeds 0, 1, ..., and the order of their data."""
    seeds, like = [*range(len(noises))], torch.zeros(len(noises), width, dtype=torch.float64)
    return Disturbance(noises, seeds, steps, like), DataOrder(seeds, size, size // 2)


def losses(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_noise_on_gradients_has_the_stated_length_and_a_direction_of_the_run_s_own():
    noises = [Noise("gaussian", "gradient", 0.5), Noise(), Noise("drift", "gradient", 2.0)]
    disturbance, _ = at_work(noises)
    directions = []
    for step in range(100):
        disturbance.hear(losses(1.0, 1.0, 1.0))
        clean = torch.randn(3, 40, dtype=torch.float64)
        noisy = clean.clone()
        disturbance.gradient(step, noisy)
        change = (noisy - clean).norm(dim=1) / clean.norm(dim=1)
        assert change[0].item() == pytest.approx(0.5 * abs(signal("gaussian", 0, 100)[step]))
        assert torch.equal(noisy[1], clean[1])
        assert change[2].item() == pytest.approx(2.0 * signal("drift", 2, 100)[step])
        directions.append((noisy - clean)[0] / (noisy - clean)[0].norm())
    overlap = torch.stack(directions) @ torch.stack(directions).T
    assert overlap.fill_diagonal_(0).abs().mean() < 2 / 40**0.5


def test_an_adversary_pushes_along_the_gradient_and_a_plateau_holds_it():
    disturbance, _ = at_work([Noise("adversarial", "gradient", 0.3), Noise("plateau", "gradient")])
    still, held = signal("plateau", 1, 100) > 0, torch.zeros(40, dtype=torch.float64)
    for step, loss in enumerate([4.0, 3.0, 3.5, 3.5, *np.linspace(3, 1, 96)]):
        disturbance.hear(losses(loss, loss))
        clean = torch.randn(2, 40, dtype=torch.float64)
        noisy = clean.clone()
        disturbance.gradient(step, noisy)
        factor = [1.0, 0.7, 1.3, 1.0][step] if step < 4 else 0.7
        assert torch.allclose(noisy[0], factor * clean[0])
        held = held if still[step] and step else clean[1]
        assert torch.equal(noisy[1], held)
    assert still.any()


def test_where_a_signal_is_silent_an_infinite_gradient_stays_what_it_is():
    """0 times infinity is no number."""
    disturbance, _ = at_work([Noise("periodic-spike", "gradient")])
    for step in range(50):
        disturbance.hear(losses(1.0))
        gradient = torch.full((1, 40), torch.inf, dtype=torch.float64)
        disturbance.gradient(step, gradient)
        assert bool(gradient.isposinf().all()) == (step < 49)


def test_noise_on_data_flips_the_stated_share_of_targets_and_no_inputs():
    many = 40
    kinds = ["drift", "periodic-spike", "gaussian", "none"]
    disturbance, order = at_work([Noise(kind, "data", 0.3) for kind in kinds for _ in range(many)])
    _, plain = at_work([Noise()] * (4 * many))
    rows, flipped = torch.arange(4 * many)[:, None], np.zeros((100, 4))
    for step in range(100):
        expected = plain.next()
        inputs, targets = disturbance.batch(step, order, order.next())
        assert torch.equal(inputs, expected)
        assert targets.max() < 64
        flipped[step] = (targets != inputs).float().view(4, -1).mean(1)
        disturbance.hear(torch.ones(len(rows), dtype=torch.float64))
    alike = 63 / 64  # a stranger may be the row itself
    assert flipped[:, 0] == pytest.approx(0.009 * np.arange(100) * alike, abs=0.06)
    assert flipped[[49, 99], 1] == pytest.approx([alike] * 2, abs=0.03)
    assert not np.delete(flipped[:, 1], [49, 99]).any()
    n = np.stack([signal("gaussian", seed, 100) for seed in range(2 * many, 3 * many)])
    assert flipped[:, 2].mean() == pytest.approx(0.3 * np.abs(n).mean() * alike, abs=0.01)
    assert not flipped[:, 3].any()


def test_on_data_an_adversary_waits_for_an_improvement_and_a_plateau_repeats_the_batch():
    noises = [Noise("adversarial", "data", 0.5), Noise("plateau", "data")]
    disturbance, order = at_work(noises)
    _, plain = at_work(noises)
    still, held = signal("plateau", 1, 100) > 0, torch.zeros(32)
    improved = []
    for step in range(100):
        expected = plain.next()
        inputs, targets = disturbance.batch(step, order, order.next())
        assert torch.equal(inputs[0], expected[0])
        if step < 2 or step % 3 != 2:  # what was heard before was worse, or the first
            assert torch.equal(targets[0], inputs[0])
        else:
            improved.append(float((targets[0] != inputs[0]).float().mean()))
        held = held if still[step] and step else expected[1]
        assert torch.equal(inputs[1], held)
        assert torch.equal(targets[1], held)
        loss = 1.0 if step % 3 == 1 else 2.0 + step
        disturbance.hear(losses(loss, loss))
    assert np.mean(improved) == pytest.approx(0.5, abs=0.06)


EVERY = [Noise(kind, place) for kind, place in product(NOISY, PLACES)]


def test_strength_zero_is_no_noise_to_the_bit():
    options: dict[str, Any] = {"rule": QUICK, "runs": len(EVERY), "steps": 70, "chunk": len(EVERY)}
    clean = open_loop(None, **options)
    assert equal(open_loop([Noise(n.kind, n.place, 0.0) for n in EVERY], **options), clean)
    tiny = open_loop([Noise(n.kind, n.place, 1e-3) for n in EVERY], **options)
    assert ((tiny.seen != clean.seen) | (tiny.grad_norm != clean.grad_norm)).any(axis=1).sum() > 15


def test_all_kinds_and_places_in_one_stack_equal_each_alone():
    options: dict[str, Any] = {"rule": "cosine", "runs": len(EVERY), "steps": 70, "lr": 0.05}
    together, alone = (
        open_loop(EVERY, **options, chunk=chunk, dtype=torch.float64) for chunk in (len(EVERY), 1)
    )
    for name in ("loss", "seen", "grad_norm", "final"):
        assert off(getattr(together, name), getattr(alone, name)) < 1e-10
    assert len({row.tobytes() for row in together.seen}) == len(EVERY)
