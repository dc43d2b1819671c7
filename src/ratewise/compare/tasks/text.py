"""Language: character models on Python's own help text and on Shakespeare, sentence polarity."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ratewise.compare import models
from ratewise.compare.data.locate import find
from ratewise.compare.data.text import (
    encode,
    hashed_words,
    read_sentences,
    read_text,
    windows,
)
from ratewise.compare.task import Task
from ratewise.compare.tasks import parts

_BUCKETS, _WORDS = 8192, 40


def pydoc_gru(preset: str, data: Path | None) -> Task:
    """Character model of the language reference that ships with CPython (`pydoc` topics)."""
    from pydoc_data.topics import topics

    # Topics share paragraphs: kept once, so that none is both trained on and judged on.
    paragraphs = [part for name in sorted(topics) for part in topics[name].split("\n\n")]
    text = "\n\n".join(dict.fromkeys(part.strip("\n") for part in paragraphs))
    text = "".join(char for char in text if char in string.printable)
    small = preset == "small"
    width, length = (32, 24) if small else (256, 96)
    codes, alphabet = encode(text)
    model = functools.partial(models.CharGRU, alphabet, width)
    return _characters("pydoc-gru", preset, codes, length, model, 16 if small else 32)


def shakespeare_transformer(preset: str, data: Path | None) -> Task:
    """Tiny Shakespeare, character by character, by a causal transformer (d = 32 when small)."""
    path = find(
        "tiny Shakespeare",
        ("tinyshakespeare/input.txt", "shakespeare_char/input.txt", "input.txt"),
        "input.txt of karpathy/char-rnn, data/tinyshakespeare",
        data,
    )
    codes, alphabet = encode(read_text(path))
    small = preset == "small"
    length, width, heads, depth = (32, 32, 2, 2) if small else (128, 128, 4, 4)
    model = functools.partial(models.CharTransformer, alphabet, length, width, heads, depth)
    return _characters("shakespeare-transformer", preset, codes, length, model, 8 if small else 32)


def polarity_text(preset: str, data: Path | None) -> Task:
    """Sentence polarity: 10,662 sentences from film reviews, praise or blame."""
    sentences, labels = [], []
    for label, end in enumerate(("neg", "pos")):
        path = find(
            f"sentence polarity's rt-polarity.{end}",
            (f"rt-polarity/rt-polarity.{end}", f"rt-polaritydata/rt-polarity.{end}"),
            "Pang and Lee's sentence polarity dataset v1.0",
            data,
        )
        lines = read_sentences(path)
        sentences += lines
        labels += [label] * len(lines)
    words = torch.tensor([hashed_words(line, _BUCKETS, _WORDS) for line in sentences])
    small = preset == "small"
    train, validation, test = parts.split((words, torch.tensor(labels)), (0.8, 0.1))
    return Task(
        name="polarity-text",
        model=functools.partial(models.WordBag, _BUCKETS, 16 if small else 64, 2),
        loss=parts.cross_entropy,
        metric=parts.accuracy,
        metric_name="accuracy",
        train=train,
        validation=validation,
        test=test,
        steps=300 if small else 2000,
        batch_size=32 if small else 64,
        preset=preset,
    )


def _characters(
    name: str,
    preset: str,
    codes: torch.Tensor,
    length: int,
    model: Callable[[], nn.Module],
    batch_size: int,
) -> Task:
    """Contiguous blocks: the first 80% train, then 10% validation, then 10% test."""
    small = preset == "small"
    first, second = int(0.8 * len(codes)), int(0.9 * len(codes))
    held_out = 96 if small else 512
    return Task(
        name=name,
        model=model,
        loss=parts.next_character,
        metric=parts.next_character_accuracy,
        metric_name="character accuracy",
        train=(windows(codes[:first], length),),
        validation=(windows(codes[first:second], length, held_out),),
        test=(windows(codes[second:], length, held_out),),
        steps=300 if small else 2000,
        batch_size=batch_size,
        preset=preset,
    )
