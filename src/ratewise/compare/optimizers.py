"""Optimizers by name, torch's own and the package's, each with a grid over three decades."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ratewise.errors import unknown
from ratewise.optimizers import HypergradientAdam, HypergradientSGD, StochasticLineSearch

_Build = Callable[..., torch.optim.Optimizer]


def _line_search(
    model: nn.Module, *, steps_per_epoch: int, **options: Any
) -> torch.optim.Optimizer:
    return StochasticLineSearch(
        model.parameters(), model=model, steps_per_epoch=steps_per_epoch, **options
    )


def _plain(kind: _Build) -> _Build:
    def build(model: nn.Module, *, steps_per_epoch: int, **options: Any) -> torch.optim.Optimizer:
        return kind(model.parameters(), **options)

    return build


#: kind -> (builder, keyword arguments, lowest value of the grid). The line search's rate is the
#: largest that it may take; it resets as in the paper's experiments (option 2).
_KINDS: dict[str, tuple[_Build, dict[str, Any], float]] = {
    "sgd": (_plain(torch.optim.SGD), {"momentum": 0.9}, 1e-3),
    "adamw": (_plain(torch.optim.AdamW), {"weight_decay": 0.01}, 1e-4),
    "adagrad": (_plain(torch.optim.Adagrad), {}, 1e-3),
    "adafactor": (_plain(torch.optim.Adafactor), {}, 1e-3),
    "hypergradient-sgd": (_plain(HypergradientSGD), {"momentum": 0.9}, 1e-3),
    "hypergradient-adam": (_plain(HypergradientAdam), {}, 1e-4),
    "line-search": (_line_search, {"reset": "grow"}, 1e-2),
    "line-search-adam": (_line_search, {"direction": "adam", "reset": "grow"}, 1e-3),
}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer in a comparison: its name in tables, how it is built, and what is tuned.

    Args:
        name: what tables call it.
        kind: one of `names()`.
        options: keyword arguments beside those of the kind.
        tuned: the argument that the grid fills: ``"lr"``, or another of the optimizer's own,
            such as the hyper-rate of hypergradient descent.
        low: lowest value of the grid; the kind's own where None.
        decades: how far the grid reaches.

    Raises:
        UnknownName: no such kind.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = "lr"
    low: float | None = None
    decades: float = 3.0

    def __post_init__(self) -> None:
        _entry(self.kind)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as data; part of a run's identity."""
        settings = {**_entry(self.kind)[1], **self.options}
        if self.name != self.kind:
            settings["kind"] = self.kind
        return settings if self.tuned == "lr" else {**settings, "tuned": self.tuned}

    def build(
        self, model: nn.Module, value: float, *, steps_per_epoch: int = 1
    ) -> torch.optim.Optimizer:
        """Return the optimizer of a model.

        Args:
            model: what is trained.
            value: what the grid chose, of the argument that is tuned.
            steps_per_epoch: optimizer steps an epoch.
        """
        make, options, _ = _entry(self.kind)
        chosen = {**options, **self.options, self.tuned: value}
        return make(model, steps_per_epoch=steps_per_epoch, **chosen)

    def grid(self, count: int) -> list[float]:
        """Return values evenly spaced in the logarithm; a single one lies in the middle.

        >>> named("adamw").grid(7)
        [0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1]
        >>> named("sgd").grid(4)
        [0.001, 0.01, 0.1, 1.0]
        >>> named("sgd").grid(1)
        [0.0316]
        """
        low = _entry(self.kind)[2] if self.low is None else self.low
        shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
        return [float(f"{low * 10 ** (self.decades * share):.3g}") for share in shares]


def names() -> list[str]:
    """Return the names of all optimizers.

    >>> names()[:4]
    ['sgd', 'adamw', 'adagrad', 'adafactor']
    """
    return list(_KINDS)


def named(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer of that name; an `Optimizer` is returned as it is.

    Raises:
        UnknownName: no such optimizer.
    """
    return optimizer if isinstance(optimizer, Optimizer) else Optimizer(optimizer, optimizer)


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Tensor:
    """Make a step of any of these, and return the batch's loss before it.

    Args:
        optimizer: what `Optimizer.build` returned.
        loss: the loss of one batch, with a graph.
    """
    if isinstance(optimizer, StochasticLineSearch):
        return optimizer.step(loss)  # it evaluates as often as it needs
    value = loss()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def _entry(kind: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], float]:
    if kind not in _KINDS:
        raise unknown("optimizer", kind, _KINDS)
    return _KINDS[kind]
