"""Which column of a log is which: by the names that trainers give them, or by the user's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ratewise.errors import InvalidArgument, unknown

#: What a column can be.
KINDS = ("step", "lr", "train_loss", "held_out_loss")
_PREFIX = r"(?:.*/)?"
#: kind -> patterns on lower-case names, the best first
_NAMES: dict[str, tuple[str, ...]] = {
    "step": (
        r"(?:.*/)?(?:global_?step|trainer/global_step)", r"steps?", r"iter(?:ation)?s?", r"_step",
    ),
    "lr": (
        rf"{_PREFIX}(?:lr|learning_?rate)",
        rf"{_PREFIX}(?:lr|learning_?rate)[-_/.].*(?:0|adamw?|sgd)", r"lr-[\w/-]+",
    ),
    "train_loss": (
        r"train(?:ing)?[-_/. ]loss(?:_step)?", r"loss", r"loss[-_/. ]train(?:ing)?",
        r"train(?:ing)?/.*loss", r"ratewise/smoothed", r"metric",
    ),
    "held_out_loss": (
        r"(?:val|valid|validation|eval|held_?out)[-_/. ]loss",
        r"loss[-_/. ](?:val|valid|validation|eval)",
        r"(?:val|valid|validation|eval)/.*loss", r"test[-_/. ]loss",
    ),
}  # fmt: skip
#: A loss in these is not in nats, in which the laws are.
_OTHER_UNITS = re.compile(r"perplexity|(?:^|[-_/. ])ppl|(?:^|[-_/. ])bp[bct](?:$|[-_/. ])|bits")


def choose(
    names: Iterable[str], wanted: Mapping[str, str] | None = None, what: str = "the log"
) -> dict[str, str]:
    """Return kind -> name of the columns that are used.

    Args:
        names: of all columns.
        wanted: kind -> name, where the user says it.
        what: the log, for messages.

    Raises:
        UnknownName: `wanted` has a kind or a name that there is not.
        InvalidArgument: there is no loss, and a column in another unit tells why.

    >>> choose(["epoch", "step", "lr-AdamW", "train_loss_step", "val_loss"])
    {'step': 'step', 'lr': 'lr-AdamW', 'train_loss': 'train_loss_step', 'held_out_loss': 'val_loss'}
    """
    there = list(names)
    found = {}
    for kind, name in (wanted or {}).items():
        if kind not in KINDS:
            raise unknown("kind of column", kind, KINDS)
        if name not in there:
            raise unknown(f"column of {what}", name, there)
    for kind in KINDS:
        chosen = (wanted or {}).get(kind) or _best(there, _NAMES[kind])
        if chosen is not None:
            found[kind] = chosen
    if not {"train_loss", "held_out_loss"} & set(found):
        for name in there:
            if _OTHER_UNITS.search(name.lower()):
                raise InvalidArgument(
                    f"{what} has its loss in another unit than nats ({name}): add a column with "
                    "the loss, ln of a perplexity or ln 2 times the bits a token"
                )
    return found


def _best(names: list[str], patterns: Iterable[str]) -> str | None:
    for pattern in patterns:
        for name in names:
            if re.fullmatch(pattern, name.strip().lower()):
                return name
    return None
