"""What a training loop may hand over as a metric, turned into a Python float or refused."""

from __future__ import annotations

from typing import Any

import torch

from ratewise.errors import invalid, wrong_type

_FIX = "pass a number or a tensor of one element, such as loss.detach()"


def as_float(loss: Any) -> float:
    """Return the metric as a float; NaN and infinities pass, they are the rule's business.

    Args:
        loss: a Python or NumPy number, or a tensor of one element on any device.

    Raises:
        WrongType: a string, a boolean, None, a container.
        InvalidArgument: a tensor or array of several elements.

    >>> as_float(torch.tensor([0.5])), as_float(2)
    (0.5, 2.0)
    """
    if type(loss) is float:
        return loss
    if isinstance(loss, bool) or (isinstance(loss, torch.Tensor) and loss.dtype == torch.bool):
        raise wrong_type("loss", "a number", loss, "a boolean is not a loss; " + _FIX)
    if isinstance(loss, torch.Tensor):
        if loss.numel() != 1:
            shape = f"tensor of shape {tuple(loss.shape)}"
            raise invalid("loss", "one number", shape, "pass loss.mean() or another scalar")
        if loss.is_complex():
            raise wrong_type("loss", "a real number", loss, "pass a real scalar")
        return float(loss.detach())
    if isinstance(loss, str | bytes) or not hasattr(loss, "__float__"):
        raise wrong_type("loss", "a number", loss, _FIX)
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise wrong_type("loss", "one real number", loss, _FIX) from error
