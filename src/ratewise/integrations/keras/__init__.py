"""GreedyLR as a Keras 3 callback: the rate follows the loss of each batch, or an epoch's metric."""

from __future__ import annotations

from ratewise.errors import MissingExtra, missing_extra

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    name = (error.name or "?").split(".")[0]
    if name != "keras":  # Keras is there, what it is set to run on is not
        raise MissingExtra(
            f"Keras is set to run on {name!r}, which is not installed: set the environment "
            "variable KERAS_BACKEND, e.g. to torch, before anything imports Keras"
        ) from error
    raise missing_extra("ratewise.integrations.keras", "keras", name) from error

from ratewise.integrations.keras.callback import GreedyLR

__all__ = ["GreedyLR"]
