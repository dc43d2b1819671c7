"""Named errors: each says which argument, the allowed range, the value received and the fix.

Every error is a `RatewiseError` and also the built-in that fits it, so that both
``except RatewiseError`` and ``except ValueError`` work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class RatewiseError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidArgument(RatewiseError, ValueError):
    """An argument has a value outside its range."""


class WrongType(RatewiseError, TypeError):
    """An argument is not of the kind that is needed."""


class UnknownName(RatewiseError, ValueError):
    """A task, schedule, optimizer, anchor or mode of that name does not exist."""


class MissingLoss(RatewiseError, RuntimeError):
    """A scheduler that decides on the loss was stepped without one."""


class StepOrderWarning(UserWarning):
    """A scheduler was stepped before its optimizer; it waits for the optimizer."""


class PastHorizonWarning(UserWarning):
    """Training goes on beyond the run's length: the schedule holds its final rate."""


class SchedulerReplacedWarning(UserWarning):
    """A new scheduler steers groups that an older one steered: the older one has given up."""


class SchedulerReplaced(RatewiseError, RuntimeError):
    """A scheduler was used after another had taken over its parameter groups."""


class NonFiniteLoss(RatewiseError, RuntimeError):
    """A loss was NaN or infinite, and ``on_nonfinite="raise"`` asked to hear of it."""


class InvalidState(RatewiseError, ValueError):
    """A state dict is not one of this scheduler's, or of a newer format."""


class SettingsDifferWarning(UserWarning):
    """An argument of a constructor differs from what a loaded state has, and holds against it."""


class RanksDisagree(RatewiseError, RuntimeError):
    """Processes that train together have different learning rates."""


class TooManyRollbacks(RatewiseError, RuntimeError):
    """A run went back to its last good weights as often as it was allowed to, and spiked again."""


class SnapshotLost(RatewiseError, RuntimeError):
    """The file with a guard's last good weights is gone, damaged, or cannot be written."""


class MissingData(RatewiseError, FileNotFoundError):
    """A data set is not where it was looked for."""


class CorruptData(RatewiseError, ValueError):
    """A data file is truncated or not of its format."""


class CorruptPolicy(RatewiseError, ValueError):
    """A weight file is truncated, is no policy, or was trained on other features."""


class CorruptPlan(RatewiseError, ValueError):
    """A file is no plan of a training's rates, is damaged, or of another format."""


class OutsideTrainingWarning(UserWarning):
    """A policy sees what it never saw while it was trained: its anchor decides alone."""


class OverwrittenRateWarning(UserWarning):
    """Somebody else sets the learning rate, so that what a scheduler writes is lost."""


class NoRateWarning(UserWarning):
    """A line search found no rate that meets its condition, or had no loss to search on."""


class StoreError(RatewiseError, RuntimeError):
    """A folder of runs cannot be used: foreign, unwritable, or of a newer schema."""


class CannotWrite(RatewiseError, OSError):
    """A file cannot be written: no room, no permission; what was there is as it was."""

    @classmethod
    def of(cls, path: object, reason: str) -> CannotWrite:
        """Return the error for a file, with the reason that the system gave."""
        fix = "make room or allow it, then repeat the command, or write elsewhere"
        error = cls(f"{path} cannot be written ({reason}): {fix}")
        error.strerror = reason
        return error


class Unreachable(RatewiseError, ConnectionError):
    """A cluster does not answer at its address, or has no room left for a worker."""


class VersionsDiffer(RatewiseError, RuntimeError):
    """A machine of a cluster has another ratewise, torch or Python than the one that asks it."""


class RunFailed(RatewiseError, RuntimeError):
    """Runs of a sweep raised an error; all others were finished and kept."""


class MissingExtra(RatewiseError, ImportError):
    """A part of the package needs an extra that is not installed."""


def invalid(argument: str, allowed: str, value: object, fix: str) -> InvalidArgument:
    """Return the error for an argument outside its range, in the project's one wording.

    >>> print(invalid("factor", "a number in (0, 1)", 1.5, "pass factor=0.95"))
    factor must be a number in (0, 1), got 1.5: pass factor=0.95
    """
    return InvalidArgument(f"{argument} must be {allowed}, got {value!r}: {fix}")


def wrong_type(argument: str, allowed: str, value: object, fix: str) -> WrongType:
    """Return the error for an argument of the wrong kind.

    >>> print(wrong_type("optimizer", "a torch.optim.Optimizer", 3, "pass your optimizer first"))
    optimizer must be a torch.optim.Optimizer, got int: pass your optimizer first
    """
    kind = type(value).__name__
    return WrongType(f"{argument} must be {allowed}, got {kind}: {fix}")


def unknown(kind: str, value: object, known: Iterable[str]) -> UnknownName:
    """Return the error for a name that does not exist, with the nearest that do.

    >>> print(unknown("schedule", "cosin", ["cosine", "linear"]))
    unknown schedule 'cosin': did you mean 'cosine'? known: cosine, linear
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownName(f"unknown {kind} {value!r}: {hint}known: {', '.join(names)}")


def missing_extra(part: str, extra: str, module: str) -> MissingExtra:
    """Return the error for an optional dependency that is not installed."""
    return MissingExtra(
        f"{part} needs {module!r}, which is not installed: pip install 'ratewise[{extra}]'",
        name=module,
    )


@contextmanager
def extra_named(part: str, extra: str) -> Iterator[None]:
    """Where an import inside needs a package that is not installed, name the extra that has it.

    A part that imports another one names its own extra, which holds what the other needs.

    Args:
        part: what cannot be used without it.
        extra: of `pyproject.toml`.

    Raises:
        MissingExtra: a package is not installed.

    >>> with extra_named("reading logs", "curves"):
    ...     raise ModuleNotFoundError(name="duckdb.typing")
    Traceback (most recent call last):
    ratewise.errors.MissingExtra: reading logs needs 'duckdb', which is not installed: \
pip install 'ratewise[curves]'
    """
    try:
        yield
    except (ModuleNotFoundError, MissingExtra) as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "ratewise"):  # a fault of our own, or an error that says it better
            raise
        raise missing_extra(part, extra, module) from error
