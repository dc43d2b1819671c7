"""HypergradientSGD and HypergradientAdam: their mathematics, against a twin written out plainly."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from ratewise.optimizers import hypergradient_base
from ratewise.optimizers.hypergradient import HypergradientAdam, HypergradientSGD
from ratewise.optimizers.hypergradient_base import Hypergradient

Kind = type[Hypergradient]
SHAPES: list[list[tuple[int, ...]]] = [[(2, 3), (3,)], [(2,), ()]]
STEPS = 20
BASES: dict[str, tuple[Kind, dict[str, Any]]] = {
    "SGD": (HypergradientSGD, {}),
    "SGD, momentum, penalty": (
        HypergradientSGD,
        {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
    ),
    "SGD, Nesterov, maximize": (
        HypergradientSGD,
        {"momentum": 0.7, "nesterov": True, "weight_decay": 0.05, "maximize": True},
    ),
    "Adam": (HypergradientAdam, {"betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-3}),
}


# -- a twin: the paper, one weight at a time ------------------------------------------------------


class Twin:
    """The rule in float64 numpy, in plain loops over weights."""

    def __init__(
        self,
        groups: list[list[np.ndarray]],
        rates: list[float],
        *,
        adam: bool,
        per: str,
        form: str,
        normalize: bool | None,
        hyper_lr: float,
        min_lr: float,
        max_lr: float,
        **base: Any,
    ) -> None:
        self.groups, self.adam, self.per, self.form = groups, adam, per, form
        self.normalize = normalize if normalize is not None else form == "multiplicative"
        self.hyper_lr, self.low, self.high, self.base = hyper_lr, min_lr, max_lr, base
        self.state: dict[tuple[int, int], dict[str, Any]] = {}
        self.rate: dict[Any, float] = {}
        #: (group, tensor, weight) of every weight.
        self.places = [
            (g, t, w)
            for g, group in enumerate(groups)
            for t, tensor in enumerate(group)
            for w in range(tensor.size)
        ]
        for place in self.places:
            self.rate[self.scope(*place)] = rates[place[0]]

    def scope(self, g: int, t: int, w: int) -> tuple[int, ...]:
        return {"model": (), "group": (g,), "tensor": (g, t), "element": (g, t, w)}[self.per]

    def step(self, gradients: list[list[np.ndarray | None]]) -> None:
        """Take a step; `gradients` are as the loss has them, None where there is none."""
        wanted: dict[tuple[int, int, int], float] = {}
        for g, t, w in self.places:
            raw = gradients[g][t]
            if raw is not None:
                sign = -1 if self.base.get("maximize") else 1
                weight = self.groups[g][t].reshape(-1)[w]
                wanted[g, t, w] = (
                    sign * raw.reshape(-1)[w] + self.base.get("weight_decay", 0) * weight
                )
        sums: dict[tuple[int, ...], list[float]] = {}
        for (g, t, w), gradient in wanted.items():
            last = self.state.get((g, t, w), {}).get("direction")
            if last is not None:
                row = sums.setdefault(self.scope(g, t, w), [0.0, 0.0, 0.0])
                row[0] += gradient * last
                row[1] += gradient * gradient
                row[2] += last * last
        for scope, (product, left, right) in sums.items():
            h = product
            if self.normalize:
                h = product / math.sqrt(left * right) if left * right > 0 else 0.0
            rate = self.rate[scope]
            rate = (
                rate + self.hyper_lr * h
                if self.form == "additive"
                else rate * (1 + self.hyper_lr * h)
            )
            self.rate[scope] = min(max(rate, self.low), self.high)
        for place in self.places:
            state = self.state.setdefault(place, {})
            if place not in wanted:
                state["direction"] = None
                continue
            gradient = wanted[place]
            direction = self.adams(state, gradient) if self.adam else self.sgds(state, gradient)
            state["direction"] = direction
            g, t, w = place
            self.groups[g][t].reshape(-1)[w] -= self.rate[self.scope(*place)] * direction

    def sgds(self, state: dict[str, Any], gradient: float) -> float:
        momentum = self.base.get("momentum", 0)
        if not momentum:
            return gradient
        if "buffer" in state:
            fresh = (1 - self.base.get("dampening", 0)) * gradient
            state["buffer"] = momentum * state["buffer"] + fresh
        else:
            state["buffer"] = gradient
        if self.base.get("nesterov"):
            return gradient + momentum * state["buffer"]
        return state["buffer"]

    def adams(self, state: dict[str, Any], gradient: float) -> float:
        beta1, beta2 = self.base["betas"]
        state["step"] = state.get("step", 0) + 1
        state["mean"] = beta1 * state.get("mean", 0.0) + (1 - beta1) * gradient
        state["square"] = beta2 * state.get("square", 0.0) + (1 - beta2) * gradient**2
        mean = state["mean"] / (1 - beta1 ** state["step"])
        square = state["square"] / (1 - beta2 ** state["step"])
        return mean / (math.sqrt(square) + self.base["eps"])


def flat(groups: Any) -> np.ndarray:
    """Return all weights of arrays or parameters as one vector."""
    tensors = itertools.chain(*groups)
    rows = [t.detach().numpy() if isinstance(t, Tensor) else t for t in tensors]
    return np.concatenate([row.reshape(-1) for row in rows])


class Task:
    """Gradients A x - b_t of a coupled quadratic of moving targets, for weights in two groups."""

    def __init__(self, rise: bool = False) -> None:
        generator = np.random.default_rng(0)
        self.sign = -1 if rise else 1  # of what has its top where the other has its bottom
        size = sum(math.prod(shape) for group in SHAPES for shape in group)
        root = generator.normal(size=(size, size))
        self.matrix = root @ root.T / size + 0.1 * np.eye(size)
        self.targets = generator.normal(size=(STEPS, size))
        self.start = [[generator.normal(size=shape) for shape in group] for group in SHAPES]

    def gradients(self, step: int, groups: list[list[np.ndarray]]) -> list[list[np.ndarray | None]]:
        """Return this step's; the second tensor has none in steps 7 and 8."""
        rest = self.sign * (self.matrix @ flat(groups) - self.targets[step])
        found: list[list[np.ndarray | None]] = []
        for group in groups:
            found.append([])
            for tensor in group:
                part, rest = rest[: tensor.size], rest[tensor.size :]
                found[-1].append(part.reshape(tensor.shape).copy())
        if step in (7, 8):
            found[0][1] = None
        return found


def parameters(task: Task) -> list[list[nn.Parameter]]:
    return [[nn.Parameter(torch.tensor(tensor)) for tensor in group] for group in task.start]


def set_gradients(groups: list[list[nn.Parameter]], task: Task, step: int) -> None:
    arrays = [[p.detach().numpy() for p in group] for group in groups]
    for group, gradients in zip(groups, task.gradients(step, arrays), strict=True):
        for p, gradient in zip(group, gradients, strict=True):
            p.grad = None if gradient is None else torch.tensor(gradient)


@pytest.mark.parametrize("normalize", [None, False, True])
@pytest.mark.parametrize("form", ["additive", "multiplicative"])
@pytest.mark.parametrize("per", ["model", "group", "tensor", "element"])
@pytest.mark.parametrize("base", BASES)
def test_every_step_is_the_twins(base: str, per: str, form: str, normalize: bool | None) -> None:
    kind, settings = BASES[base]
    task = Task(rise=settings.get("maximize", False))
    rates = [0.05, 0.05] if per == "model" else [0.05, 0.03]
    moves = {"hyper_lr": 0.004 if form == "additive" else 0.08, "min_lr": 0.01, "max_lr": 0.12}
    common: Any = {"per": per, "form": form, "normalize": normalize, **moves, **settings}
    runs = []
    for foreach in (False, True):
        groups = parameters(task)
        both = zip(groups, rates, strict=True)
        rows: list[Any] = [{"params": group, "lr": rate} for group, rate in both]
        runs.append((groups, kind(rows, lr=0.05, foreach=foreach, **common)))  # type: ignore[call-arg]
    start = [[tensor.copy() for tensor in group] for group in task.start]
    twin = Twin(start, rates, adam=kind is HypergradientAdam, **common)
    seen = set()
    for step in range(STEPS):
        twin.step(task.gradients(step, twin.groups))
        weights, wanted = flat(twin.groups), np.array(list(twin.rate.values()))
        for groups, optimizer in runs:
            set_gradients(groups, task, step)
            optimizer.step()
            found = torch.cat([rate.reshape(-1) for rate in optimizer.rates()]).numpy()
            assert np.allclose(flat(groups), weights, rtol=1e-9, atol=1e-12)
            assert np.allclose(found, wanted, rtol=1e-9, atol=0)
        seen.update(wanted)
    assert len(seen) > STEPS / 2, "the rates hardly moved: the comparison would show nothing"


# -- one rate in a step, whatever the order -------------------------------------------------------


def run_in_order(order: list[int], kind: Kind, foreach: bool) -> tuple[list[Tensor], Tensor]:
    """Return weights in their usual order, and the rate, after a run with tensors in `order`."""
    task = Task()
    groups = parameters(task)
    tensors = list(itertools.chain(*groups))
    lr, hyper_lr = 0.05, 0.004
    optimizer = kind([tensors[i] for i in order], lr=lr, hyper_lr=hyper_lr, foreach=foreach)  # type: ignore[call-arg]
    for step in range(STEPS):
        set_gradients(groups, task, step)
        optimizer.step()
    return [p.detach() for p in tensors], optimizer.rates()[0]


@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
@pytest.mark.parametrize("kind", [HypergradientSGD, HypergradientAdam])
def test_the_order_of_tensors_does_not_matter(kind: Kind, foreach: bool) -> None:
    weights, rate = run_in_order([0, 1, 2, 3], kind, foreach)
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        others, other = run_in_order(order, kind, foreach)
        torch.testing.assert_close(other, rate, rtol=1e-12, atol=0)
        torch.testing.assert_close(others, weights, rtol=1e-10, atol=1e-13)


def one_pass(order: list[int]) -> list[np.ndarray]:
    """Return weights after SGD that moves the rate within its loop over tensors, as some do."""
    task = Task()
    groups = [[tensor.copy() for tensor in group] for group in task.start]
    tensors = list(itertools.chain(*groups))
    rate, last = 0.05, [np.zeros_like(tensor) for tensor in tensors]
    for step in range(STEPS):
        gradients = list(itertools.chain(*task.gradients(step, groups)))
        for i in order:
            gradient = gradients[i]
            if gradient is None:
                last[i][...] = 0.0
                continue
            rate += 0.004 * float((gradient * last[i]).sum())
            tensors[i] -= rate * gradient
            last[i] = gradient
    return tensors


def test_control_a_rate_moved_in_the_loop_depends_on_the_order() -> None:
    first, second = one_pass([0, 1, 2, 3]), one_pass([3, 2, 1, 0])
    assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)) > 1e-4


@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
def test_all_tensors_of_a_step_move_by_the_rate_that_is_reported(foreach: bool) -> None:
    task = Task()
    groups = parameters(task)
    tensors = list(itertools.chain(*groups))
    optimizer = HypergradientSGD(tensors, lr=0.05, hyper_lr=0.004, foreach=foreach)
    for step in range(4):
        before = [p.detach().clone() for p in tensors]
        set_gradients(groups, task, step)
        optimizer.step()
        [rate] = optimizer.rates()
        for p, old in zip(tensors, before, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.detach(), old - rate * p.grad, rtol=1e-13, atol=1e-13)
    assert rate != 0.05


# -- h is the derivative --------------------------------------------------------------------------


def objective(x: Tensor) -> Tensor:
    return x.sin().sum() + x.square().square().sum() / 8 + x.prod()


def derivatives(kind: Kind, **settings: Any) -> list[tuple[float, float]]:
    """Return, step by step, how the rate moved over beta, and minus autograd's df/dalpha.

    The derivative is that of what is minimized after a step, with respect to that step's rate.
    """
    x = nn.Parameter(torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64))
    beta, sign = 1e-3, -1 if settings.get("maximize") else 1
    optimizer = kind([x], lr=0.02, hyper_lr=beta, **settings)  # type: ignore[call-arg]
    found, expected = [], math.nan
    for _ in range(6):
        optimizer.zero_grad()
        objective(x).backward()
        before, old = x.detach().clone(), optimizer.rates()[0]
        optimizer.step()
        new = optimizer.rates()[0]
        found.append((((new - old) / beta).item(), expected))
        # The step is linear in its rate: the rest of it is what was moved over the rate.
        direction = (before - x.detach()) / new
        rate = new.clone().requires_grad_()
        after = before - rate * direction
        penalized = sign * objective(after)
        penalized = penalized + settings.get("weight_decay", 0.0) / 2 * after.square().sum()
        penalized.backward()
        assert rate.grad is not None
        expected = -rate.grad.item()
    return found[1:]


DERIVATIVES: list[tuple[Kind, dict[str, Any]]] = [
    (HypergradientSGD, {}),
    (HypergradientSGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    (HypergradientSGD, {"maximize": True, "weight_decay": 0.3}),
    (HypergradientAdam, {}),
    (HypergradientAdam, {"weight_decay": 0.3, "maximize": True}),
]


@pytest.mark.parametrize(("kind", "settings"), DERIVATIVES)
def test_h_is_minus_the_losss_derivative(kind: Kind, settings: dict[str, Any]) -> None:
    for found, expected in derivatives(kind, **settings):
        assert abs(expected) > 1e-3
        assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", [HypergradientSGD, HypergradientAdam])
def test_control_of_a_wrong_sign(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    right = hypergradient_base.moved
    monkeypatch.setattr(hypergradient_base, "moved", lambda rate, h, group: right(rate, -h, group))
    assert all(found * expected < 0 for found, expected in derivatives(kind))


def test_control_of_a_forgotten_penalty() -> None:
    """Without its share of the gradient, h would be another number: the test above would fail."""
    with_penalty = derivatives(HypergradientSGD, weight_decay=0.3)
    without = derivatives(HypergradientSGD)
    assert with_penalty[0][0] != pytest.approx(without[0][0], rel=1e-2)


# -- on a quadratic the rate goes to 1/L ----------------------------------------------------------


def on_quadratic(curvature: float, rate: float, steps: int, **settings: Any) -> list[float]:
    """Return the rates of HypergradientSGD on L/2 x^2."""
    x = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = HypergradientSGD([x], lr=rate, **settings)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        (curvature / 2 * x.square()).backward()
        optimizer.step()
        found.append(optimizer.rates()[0].item())
    return found


@pytest.mark.parametrize("share", [0.05, 0.6, 1.5, 1.95])
@pytest.mark.parametrize("curvature", [0.1, 10.0])
def test_the_rate_goes_to_one_over_the_curvature(curvature: float, share: float) -> None:
    best = 1 / curvature
    rates = on_quadratic(curvature, share * best, 60, form="multiplicative", hyper_lr=0.1)
    assert abs(math.log(rates[1] / best)) < abs(math.log(share))  # the first move is towards it
    assert rates[-1] == pytest.approx(best, rel=0.11)  # to within a move


@pytest.mark.parametrize("share", [0.2, 1.8])
def test_additive_moves_approach_it_from_their_side(share: float) -> None:
    rates = on_quadratic(1.0, share, 100, hyper_lr=0.05)
    gaps = [rate - 1.0 for rate in [share, *rates]]
    assert all(abs(b) <= abs(a) and a * b > 0 for a, b in itertools.pairwise(gaps))
    assert abs(gaps[-1]) < 0.97 * abs(gaps[0])


def digits_loss(rate: float, **settings: Any) -> float:
    """Return the loss on all of 1200 digits after 200 steps."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:1200] / 16).float(), torch.tensor(labels[:1200])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = HypergradientSGD(net.parameters(), lr=rate, form="multiplicative", **settings)
    for _ in range(200):
        batch = torch.randint(1200, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        return nn.functional.cross_entropy(net(x), y).item()


def test_it_makes_up_for_a_low_rate_and_lowers_a_good_one_too_soon() -> None:
    assert digits_loss(0.01, hyper_lr=0.1) < 0.5 * digits_loss(0.01, hyper_lr=0.0)
    assert digits_loss(1.0, hyper_lr=0.1) > 2 * digits_loss(1.0, hyper_lr=0.0)


# -- beta 0 is the base optimizer -----------------------------------------------------------------

TORCHS: list[tuple[Kind, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (HypergradientSGD, torch.optim.SGD, {}),
    (HypergradientSGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.2, "maximize": True}),
    (HypergradientSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (HypergradientAdam, torch.optim.Adam, {}),
    (HypergradientAdam, torch.optim.Adam, {"weight_decay": 0.1, "maximize": True, "eps": 1e-3}),
]


def trained(make: Any, dtype: torch.dtype, steps: int = 12) -> list[Tensor]:
    """Return the weights of a small network after full-batch steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 17), nn.Tanh(), nn.Linear(17, 1)).to(dtype)
    x, y = torch.randn(32, 5).to(dtype), torch.randn(32, 1).to(dtype)
    optimizer = make(net.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize("per", ["model", "group", "tensor", "element"])
@pytest.mark.parametrize(("kind", "torchs", "settings"), TORCHS)
def test_without_moves_it_is_torchs(
    kind: Kind, torchs: type[torch.optim.Optimizer], settings: dict[str, Any], per: str
) -> None:
    def make(foreach: bool, per: str = per) -> Any:
        return lambda p: kind(p, lr=0.01, hyper_lr=0.0, per=per, foreach=foreach, **settings)  # type: ignore[call-arg]

    for dtype in (torch.float32, torch.float64):
        theirs = trained(lambda p: torchs(p, lr=0.01, foreach=False, **settings), dtype)  # type: ignore[call-arg]
        mine = trained(make(foreach=False), dtype)
        if per == "element" and dtype == torch.float32:
            # One float32 rate a weight: 0.01 is rounded before Adam divides it, not after.
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        else:
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    torch.testing.assert_close(
        trained(make(foreach=True), torch.float64), theirs, rtol=1e-12, atol=1e-14
    )
