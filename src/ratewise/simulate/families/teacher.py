"""Random teachers: a network that is drawn, not trained, labels inputs that are drawn.

Every run has a teacher and data of its own, which its seed determines and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ratewise.simulate.families.parts import (
    Source,
    check_number,
    check_whole,
    cross_entropy,
    squared_error,
)
from ratewise.simulate.task import Data

#: Keeps a run's teacher apart from its initial weights and data order, drawn from the same seed.
_STREAM = 0x7EAC4E2


@dataclass(frozen=True)
class Teacher:
    """What all random teachers have in common; called with a run's seed, one returns its data.

    Args:
        teacher_width: units, or channels, of a hidden layer.
        teacher_depth: hidden layers.
        classes: how many, about equally frequent; None for a real target, standardised.
        label_noise: share of labels that are replaced by uniform draws; for a real target the
            standard deviation of what is added, in the target's own.
        size: rows.
        spectrum: how fast the inputs' variances decay: the i-th direction has i^-spectrum.

    Raises:
        InvalidArgument: an option outside its range; the error names it.
    """

    teacher_width: Any = 32
    teacher_depth: Any = 1
    classes: Any = 4
    label_noise: Any = 0.0
    size: Any = 512
    spectrum: Any = 1.0

    def __post_init__(self) -> None:
        check_whole("teacher_width", self.teacher_width, 1, 4096)
        check_whole("teacher_depth", self.teacher_depth, 1, 32)
        if self.classes is not None:
            check_whole("classes", self.classes, 2, 1000)
        check_number("label_noise", self.label_noise, 0, 1 if self.classes else 1e6)
        check_whole("size", self.size, 2, 100_000)
        check_number("spectrum", self.spectrum, 0, 100)

    @property
    def outputs(self) -> int:
        """How many numbers a student returns."""
        return self.classes or 1

    def source(self) -> Source:
        """Return what a student must know."""
        loss = squared_error if self.classes is None else cross_entropy
        return Source("teacher", self, self.size, self.shape, self.outputs, loss=loss)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        raise NotImplementedError

    def __call__(self, seed: int) -> Data:
        """Return the run's (inputs, targets); targets are codes or real numbers."""
        generator = torch.Generator().manual_seed(seed ^ _STREAM)
        inputs, answers = self.draw(generator)
        answers = (answers - answers.mean(0)) / answers.std(0).clamp_min(1e-6)
        if self.classes is None:
            answers = answers[:, 0]
            return inputs, answers + self.label_noise * _normal(generator, self.size)
        labels = answers.argmax(1)
        drawn = torch.randint(self.classes, (self.size,), generator=generator)
        noisy = torch.rand(self.size, generator=generator) < self.label_noise
        return inputs, torch.where(noisy, drawn, labels)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs [size, ...] and a new teacher's answers to them, [size, outputs]."""
        raise NotImplementedError


@dataclass(frozen=True)
class VectorTeacher(Teacher):
    """A perceptron with tanh on Gaussian vectors.

    Args:
        inputs: numbers a vector; their mean variance is 1.
    """

    inputs: Any = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("inputs", self.inputs, 1, 4096)

    @property
    def shape(self) -> tuple[int, ...]:
        """(inputs,)."""
        return (self.inputs,)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs [size, inputs] and answers."""
        variance = torch.arange(1, self.inputs + 1).float() ** -self.spectrum
        inputs = _normal(generator, self.size, self.inputs) * (variance / variance.mean()).sqrt()
        hidden = inputs
        for _ in range(self.teacher_depth):  # a gain of 2 makes the bends matter
            hidden = torch.tanh(
                2 * hidden @ _weight(generator, hidden.shape[1], self.teacher_width)
            )
        return inputs, hidden @ _weight(generator, self.teacher_width, self.outputs)


@dataclass(frozen=True)
class ImageTeacher(Teacher):
    """A convolutional network with tanh on Gaussian images.

    The power of an image at frequency f falls as (1 + f)^-spectrum; in photographs it falls about
    as f^-2 (Field 1987).

    Args:
        side: pixels along a side.
        channels: of an image.
    """

    spectrum: Any = 2.0
    teacher_width: Any = 8
    side: Any = 8
    channels: Any = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("side", self.side, 4, 64)
        check_whole("channels", self.channels, 1, 16)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, side, side)."""
        return (self.channels, self.side, self.side)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs [size, channels, side, side] and answers."""
        along = torch.fft.fftfreq(self.side).mul(self.side)
        frequency = torch.hypot(along[:, None], along[None, :])
        power = (1 + frequency) ** -self.spectrum
        white = _normal(generator, self.size, self.channels, self.side, self.side)
        spectrum = torch.fft.fft2(white) * (power / power.mean()).sqrt()
        images = torch.fft.ifft2(spectrum).real.contiguous()
        hidden = images
        for _ in range(self.teacher_depth):
            read = hidden.shape[1]
            kernel = _weight(generator, 9 * read, self.teacher_width).t()
            kernel = kernel.reshape(self.teacher_width, read, 3, 3)
            hidden = torch.tanh(2 * functional.conv2d(hidden, kernel, padding=1))
        pooled = functional.adaptive_avg_pool2d(hidden, 2).flatten(1)
        return images, pooled @ _weight(generator, pooled.shape[1], self.outputs)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def _weight(generator: torch.Generator, inputs: int, outputs: int) -> Tensor:
    """Return weights [inputs, outputs] that keep the variance."""
    return _normal(generator, inputs, outputs) / inputs**0.5
