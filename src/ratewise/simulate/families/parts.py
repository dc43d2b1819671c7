"""What the families share: losses, checks of options, and a task put together from its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ratewise.errors import invalid
from ratewise.rules.checks import is_number
from ratewise.simulate.task import Data, Task

Loss = Callable[..., Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean in nats: logits [n, classes] or [n, length, classes], targets without the last."""
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def squared_error(output: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error: output [n, 1], targets [n]."""
    return functional.mse_loss(output.squeeze(-1), targets)


def value(output: Tensor) -> Tensor:
    """Return the output itself: the loss of a function to be minimised."""
    return output


@dataclass(frozen=True)
class Source:
    """A data set, and what a model must know about it.

    Args:
        name: what the data are called.
        data: (inputs, targets), or a function of a run's seed that returns them.
        size: rows.
        shape: of one input; (length,) if it is a row of codes.
        outputs: numbers that a model returns for an input, or for each position of it.
        alphabet: how many codes there are; 0 where inputs are numbers.
        loss: of the outputs and the targets.
    """

    name: str
    data: Data | Callable[[int], Data]
    size: int
    shape: tuple[int, ...]
    outputs: int
    alphabet: int = 0
    loss: Loss = cross_entropy


def assemble(name: str, model: Callable[[], nn.Module], source: Source, batch_size: Any) -> Task:
    """Return the task of a model on data; a batch larger than these is an error."""
    check_whole("batch_size", batch_size, 1, source.size)
    return Task(f"{name}-{source.name}", model, source.loss, source.data, batch_size)


def check_whole(name: str, number: Any, least: int, most: int) -> None:
    """Raise unless an option is an integer in [least, most]; a boolean is none."""
    is_int = isinstance(number, int) and not isinstance(number, bool)
    if not is_int or not least <= number <= most:
        fix = f"pass {name}={least} or more" if is_int and number < least else f"pass {name}={most}"
        raise invalid(name, f"an integer from {least} to {most}", number, fix)


def check_number(name: str, number: Any, least: float, most: float) -> None:
    """Raise unless an option is a number in [least, most]."""
    if not is_number(number) or not least <= number <= most:
        raise invalid(name, f"a number from {least:g} to {most:g}", number, f"pass {name}={least}")


def check_multiple(name: str, number: int, of: str, divisor: int) -> None:
    """Raise unless an option is a multiple of another."""
    if number % divisor:
        fix = f"pass {of}={divisor} and {name}={divisor * max(1, number // divisor)}"
        raise invalid(name, f"a multiple of {of}={divisor}", number, fix)
