"""Tasks of the article's study alone: transformers of three sizes, and one that LoRA adapts."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ratewise.compare import training
from ratewise.compare.task import Task
from ratewise.compare.tasks import text
from ratewise.data import sets
from ratewise.data.text import encode
from ratewise.files import writing
from ratewise.models.sequence import CharTransformer

LENGTH, BATCH = 32, 8
#: name -> width, heads, depth
SIZES = {"10k": (16, 2, 2), "100k": (64, 4, 2), "1M": (144, 4, 4)}
#: Optimizer steps of the model that LoRA adapts, its rate, and its seed.
PRETRAINING, RATE, SEED = 2000, 3e-3, 20231
RANK = 4


def sized(
    name: str, size: tuple[int, int, int], data: str | None, steps: int | None = None
) -> Task:
    """Return tiny Shakespeare for a causal transformer of that size; tokens do not depend on it.

    Args:
        name: of the size: its parameters, as 10k or 1M.
        size: width, heads, depth.
        data: folder with the data sets.
        steps: length of a run; 300 if None.
    """
    codes, alphabet = encode(sets.shakespeare(data))
    model = functools.partial(CharTransformer, alphabet, LENGTH, *size)
    return _task(f"transformer-{name}", codes, model, steps, "small")


@dataclass(frozen=True)
class Pretrained:
    """Weights in a file, and the loss on Shakespeare's test part that they end at."""

    path: Path
    alphabet: int
    test_loss: float

    @property
    def digest(self) -> str:
        """Eight hex digits of the file; part of what identifies a run that starts there."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]


def pretrain(folder: Path, data: str | None, steps: int, *, progress: bool = True) -> Pretrained:
    """Train the model that LoRA adapts on tiny Shakespeare, once; a finished one is kept.

    Args:
        folder: where the weights lie.
        data: folder with the data sets.
        steps: optimizer steps, with AdamW and a linear decay.
        progress: say that it goes on.
    """
    path, about = folder / f"{steps}.safetensors", folder / f"{steps}.json"
    shakespeare, _, alphabet = _both(data)
    if not about.exists():  # it is written last
        if progress:
            print(f"pre-training {steps} steps", flush=True)
        kept: list[nn.Module] = []  # a training returns its record alone

        def model() -> nn.Module:
            kept.append(_transformer(alphabet))
            return kept[-1]

        task = _task("pretrain", shakespeare, model, steps, "small")
        with training.one_thread():
            record = training.train(task, "adamw", "linear", RATE, SEED)
        with writing.whole(path) as temporary:
            save_file(kept[-1].state_dict(), temporary)
        writing.write(about, json.dumps({"test_loss": record.test_loss[-1]}))
    return Pretrained(path, alphabet, json.loads(about.read_text())["test_loss"])


def adapted(pretrained: Pretrained, data: str | None, steps: int | None = None) -> Task:
    """Return WikiText-2, learned by low-rank changes of a model that knows Shakespeare.

    Args:
        pretrained: what is adapted.
        data: folder with the data sets.
        steps: length of a run; 300 if None.
    """
    codes = _both(data)[1]
    model = functools.partial(low_rank, str(pretrained.path), pretrained.alphabet)
    return _task("lora-wikitext", codes, model, steps, f"lora-{pretrained.digest}")


class LowRank(nn.Module):
    """W + B A (Hu et al. 2021, arXiv 2106.09685, eq. 3): A [r, n] is random, B [m, r] starts at 0.

    Args:
        weight: the matrix [m, n] that is left alone.
        rank: r.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) * weight.shape[1] ** -0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted matrix."""
        return weight + self.up @ self.down


def low_rank(path: str, alphabet: int) -> nn.Module:
    """Return the pre-trained model, frozen, with a low-rank change at each linear layer."""
    model = _transformer(alphabet)
    model.load_state_dict(load_file(path))
    model.requires_grad_(False)
    for block in model.blocks:
        for layer in block.modules():
            if isinstance(layer, nn.Linear):
                parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, RANK))
    return model


def _transformer(alphabet: int) -> CharTransformer:
    return CharTransformer(alphabet, LENGTH, *SIZES["100k"])


def _both(data: str | None) -> tuple[Tensor, Tensor, int]:
    """Return Shakespeare and WikiText-2 in one alphabet, and its size."""
    first, second = sets.shakespeare(data), sets.wikitext(data)
    codes, alphabet = encode(first + second)
    return codes[: len(first)], codes[len(first) :], alphabet


def _task(
    name: str, codes: Tensor, model: Callable[[], nn.Module], steps: int | None, preset: str
) -> Task:
    task = text.characters(name, "small", codes, LENGTH, model, BATCH)
    return replace(task, preset=preset, steps=task.steps if steps is None else steps)
