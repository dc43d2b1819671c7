"""Language: character models on Python's own help text and on Shakespeare, sentence polarity."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ratewise.compare.task import Task
from ratewise.compare.tasks import parts
from ratewise.data import sets
from ratewise.data.text import encode, hashed_words, windows
from ratewise.models import sequence

_BUCKETS, _WORDS = 8192, 40


def pydoc_gru(preset: str, data: Path | None) -> Task:
    """Character model of the language reference that ships with CPython (`pydoc` topics)."""
    small = preset == "small"
    width, length = (32, 24) if small else (256, 96)
    codes, alphabet = encode(sets.pydoc())
    model = functools.partial(sequence.CharGRU, alphabet, width)
    return characters("pydoc-gru", preset, codes, length, model, 16 if small else 32)


def shakespeare_transformer(preset: str, data: Path | None) -> Task:
    """Tiny Shakespeare, character by character, by a causal transformer (d = 32 when small)."""
    codes, alphabet = encode(sets.shakespeare(data))
    small = preset == "small"
    length, width, heads, depth = (32, 32, 2, 2) if small else (128, 128, 4, 4)
    model = functools.partial(sequence.CharTransformer, alphabet, length, width, heads, depth)
    return characters("shakespeare-transformer", preset, codes, length, model, 8 if small else 32)


def wikitext_gru(preset: str, data: Path | None) -> Task:
    """WikiText-2's validation part, character by character, by a GRU."""
    small = preset == "small"
    width, length = (32, 24) if small else (256, 96)
    codes, alphabet = encode(sets.wikitext(data))
    model = functools.partial(sequence.CharGRU, alphabet, width)
    return characters("wikitext-gru", preset, codes, length, model, 16 if small else 32)


def polarity_text(preset: str, data: Path | None) -> Task:
    """Sentence polarity: 10,662 sentences from film reviews, by a mean of words."""
    width = 16 if preset == "small" else 64
    return _polarity(
        "polarity-text", preset, data, functools.partial(sequence.WordBag, _BUCKETS, width, 2)
    )


def polarity_attention(preset: str, data: Path | None) -> Task:
    """Sentence polarity, by one layer of self-attention over the words."""
    width, heads = (16, 2) if preset == "small" else (64, 4)
    model = functools.partial(
        sequence.AttentionNet, _BUCKETS, _WORDS, width, heads, 2, symbols=True
    )
    return _polarity("polarity-attention", preset, data, model)


def _polarity(name: str, preset: str, data: Path | None, model: Callable[[], nn.Module]) -> Task:
    sentences, labels = sets.polarity(data)
    words = torch.tensor([hashed_words(line, _BUCKETS, _WORDS) for line in sentences])
    split = parts.split((words, torch.tensor(labels)), (0.8, 0.1))
    return parts.classification(name, preset, split, model, 32 if preset == "small" else 64)


def characters(
    name: str,
    preset: str,
    codes: torch.Tensor,
    length: int,
    model: Callable[[], nn.Module],
    batch_size: int,
) -> Task:
    """Return next-character prediction; the first 80% train, then 10% validate, then 10% test."""
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
