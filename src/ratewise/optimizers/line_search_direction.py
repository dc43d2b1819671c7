"""Adam's direction for a line search, and inner products."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import invalid
from ratewise.rules.checks import check_betas, is_number


def check_adam(betas: Any, eps: Any) -> None:
    """Raise unless a group's settings for Adam are legal.

    >>> check_adam((0.9, 1.0), 1e-8)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: betas must be two numbers in [0, 1), got (0.9, 1.0): pass \
e.g. (0.0, 0.999)
    """
    check_betas(betas, example=(0.0, 0.999))
    if not (is_number(eps) and 0.0 < eps < 1.0):
        raise invalid("eps", "a number in (0, 1)", eps, "pass e.g. 1e-8")


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, in float32 or better, on one device."""
    products = []
    for one, other in zip(left, right, strict=True):
        wide = torch.promote_types(one.dtype, torch.float32)
        products.append((one.to(wide) * other.to(wide)).sum().to(left[0].device))
    return torch.stack(products).sum()


@torch.no_grad()
def adam_direction(
    groups: Sequence[dict[str, Any]],
    gradients: Sequence[Tensor | None],
    state: MutableMapping[Tensor, Any],
) -> list[Tensor]:
    r"""Return :math:`d = \hat m / (\sqrt{\hat v} + \varepsilon)` and take the gradients in.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
              v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              \hat m = m / (1 - \beta_1^t), \quad \hat v = v / (1 - \beta_2^t).

    Without the mean of gradients (:math:`\beta_1 = 0`, d = g / A, none is kept) every entry of d
    has the sign of g, so that the loss falls along -d; with it, it may not.

    Args:
        groups: the optimizer's, each with its own "betas" and "eps".
        gradients: of this step, one a parameter, or None; those without are left out.
        state: the optimizer's; a parameter's step count t, v and m are kept in it.

    Source: Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1.
    """
    direction: list[Tensor] = []
    left = iter(gradients)
    for group in groups:
        pairs = [(parameter, next(left)) for parameter in group["params"]]
        there = [(parameter, own) for parameter, own in pairs if own is not None]
        if there:
            entries = [_entry(state[parameter], parameter) for parameter, _ in there]
            own_gradients = [own for _, own in there]
            mean_beta, square_beta = group["betas"]
            direction += _take_in(own_gradients, entries, mean_beta, square_beta, group["eps"])
    return direction


def _entry(entry: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Return a parameter's state, made if there is none yet."""
    if not entry:
        entry.update(step=0, exp_avg_sq=torch.zeros_like(parameter))
    return entry


def _take_in(
    gradients: list[Tensor],
    entries: list[dict[str, Any]],
    mean_beta: float,
    square_beta: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """Take one group's gradients in and return its part of the direction."""
    for entry, gradient in zip(entries, gradients, strict=True):
        entry["step"] += 1
        if mean_beta and "exp_avg" not in entry:
            entry["exp_avg"] = torch.zeros_like(gradient)
    steps = [entry["step"] for entry in entries]
    squares = [entry["exp_avg_sq"] for entry in entries]
    torch._foreach_mul_(squares, square_beta)
    torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - square_beta)
    below = torch._foreach_sqrt(squares)
    torch._foreach_div_(below, [(1.0 - square_beta**step) ** 0.5 for step in steps])
    torch._foreach_add_(below, eps)
    if not mean_beta:
        return torch._foreach_div(gradients, below)
    means = [entry["exp_avg"] for entry in entries]
    torch._foreach_lerp_(means, gradients, 1.0 - mean_beta)
    direction = torch._foreach_div(means, below)
    torch._foreach_div_(direction, [1.0 - mean_beta**step for step in steps])
    return direction
