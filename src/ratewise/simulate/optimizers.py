"""The optimizers that may step a stack of runs: those whose step is proportional to the rate.

One torch optimizer steps all runs at lr = 1, and each run n then keeps its own part of the way:

    p[n] = p_old[n] + lr[n] * (p_new[n] - p_old[n])

That is exact for the optimizers of `ratewise.rate_proportional`, the allow-list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import invalid, unknown, wrong_type
from ratewise.rate_proportional import RATE_PROPORTIONAL

_BY_NAME = {kind.__name__.lower(): kind for kind in RATE_PROPORTIONAL}
#: Options of the named ones that differ from torch's defaults.
_OPTIONS: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}}

#: A name, a class of torch.optim, or a function ``(params, lr=...)`` such as a partial of one.
Choice = str | Callable[..., Optimizer]


def names() -> list[str]:
    """Return the names on the allow-list.

    >>> names()[:3]
    ['sgd', 'adam', 'adamw']
    """
    return list(_BY_NAME)


def build(choice: Choice, stack: Tensor) -> Optimizer:
    """Return the optimizer that steps `stack`, at lr = 1.

    Args:
        choice: a name ("sgd" has momentum 0.9), a class, or a function ``(params, lr=...)``.
        stack: the parameters of all runs, [runs, parameters].

    Raises:
        UnknownName: no optimizer is called so.
        InvalidArgument: it is not on the allow-list, or has a rate of its own.
        WrongType: what was passed builds no optimizer.

    >>> build(torch.optim.Rprop, torch.zeros(2, 3, requires_grad=True))
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: optimizer must be one whose step is proportional to lr (sgd, \
adam, adamw, adagrad, rmsprop, nadam, radam, adamax, adadelta), got 'Rprop': train such runs one \
by one, in an ordinary loop
    """
    if isinstance(choice, str):
        found = _BY_NAME.get(choice.lower())
        if found is None:
            if kind := _torch_s(choice):
                raise _off_the_list(kind)
            raise unknown("optimizer", choice, _BY_NAME)
        return found([stack], lr=1.0, **_OPTIONS.get(choice.lower(), {}))  # type: ignore[call-arg]
    if not callable(choice):
        fix = "pass 'adamw', torch.optim.AdamW or functools.partial(torch.optim.AdamW, ...)"
        raise wrong_type("optimizer", "a name, a class or a function", choice, fix)
    if (
        isinstance(choice, type)
        and issubclass(choice, Optimizer)
        and choice not in RATE_PROPORTIONAL
    ):
        raise _off_the_list(choice)
    optimizer = choice([stack], lr=1.0)
    if not isinstance(optimizer, Optimizer):
        fix = "return torch.optim.AdamW(params, lr=lr, ...)"
        raise wrong_type("optimizer", "a function that returns an optimizer", optimizer, fix)
    if type(optimizer) not in RATE_PROPORTIONAL:
        raise _off_the_list(type(optimizer))
    rates = [group["lr"] for group in optimizer.param_groups]
    if rates != [1.0]:
        fix = "return torch.optim.AdamW(params, lr=lr, ...)"
        raise invalid("optimizer", "a function that uses the lr it is given (1.0)", rates, fix)
    return optimizer


def describe(choice: Choice) -> str:
    """Return a description, equal for equal choices: a cache key, and part of an identity.

    >>> import functools
    >>> describe(functools.partial(torch.optim.SGD, momentum=0.5))
    'SGD(momentum=0.5)'
    """
    if isinstance(choice, str):
        return choice.lower()
    inner = getattr(choice, "func", choice)
    options = getattr(choice, "keywords", {})
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    given = ", ".join(f"{key}={value!r}" for key, value in sorted(options.items()))
    return f"{name}({given})" if given else name


def _torch_s(name: str) -> type[Optimizer] | None:
    """Return torch's optimizer of that name, whatever its case."""
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    for kind in kinds:
        if kind.__name__.lower() == name.lower() and issubclass(kind, Optimizer):
            return kind
    return None


def _off_the_list(kind: type) -> Exception:
    allowed = f"one whose step is proportional to lr ({', '.join(_BY_NAME)})"
    fix = "train such runs one by one, in an ordinary loop"
    return invalid("optimizer", allowed, kind.__name__, fix)
