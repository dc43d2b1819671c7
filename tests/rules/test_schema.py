"""The checks that tables of saved fields are made of."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from ratewise.errors import InvalidState
from ratewise.rules import schema
from ratewise.rules.greedy_config import GreedyConfig

SETTINGS = dataclasses.asdict(GreedyConfig())
DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]

LEGAL = [
    (schema.real, math.nan),
    (schema.number(), -2),
    (schema.number(0.0, 1.0), 1.0),
    (schema.above(0.0), 5e-324),
    (schema.count(), 0),
    (schema.count(-3), -3),
    (schema.flag, False),
    (schema.text, ""),
    (schema.choice(None, True, "a"), True),
    (schema.optional(schema.flag), None),
    (schema.several(schema.count()), [1, 2]),
    (schema.row(schema.count(), schema.text), [1, "x"]),
    (schema.record({"a": schema.flag}), {"a": True}),
    (schema.settings(GreedyConfig), SETTINGS),
]
ILLEGAL = [
    (schema.real, True),
    (schema.real, 10**400),
    (schema.number(), math.inf),
    (schema.number(0.0, 1.0), 1.5),
    (schema.number(), "1"),
    (schema.above(0.0), 0.0),
    (schema.count(), -1),
    (schema.count(), True),
    (schema.count(), 1.0),
    (schema.count(), 2**63),
    (schema.flag, 1),
    (schema.text, b"x"),
    (schema.choice(None, True, "a"), 1),
    (schema.choice("a"), ["a"]),
    (schema.optional(schema.flag), "x"),
    (schema.several(schema.count()), (1, 2)),
    (schema.several(schema.count(), length=1), [1, 2]),
    (schema.several(schema.count(), most=1), [1, 2]),
    (schema.several(schema.count()), [1, DEEP]),
    (schema.row(schema.count(), schema.text), [1]),
    (schema.record({"a": schema.flag}), {"a": True, 3: 1}),
    (schema.record({"a": schema.flag}), {}),
    (schema.record({"a": schema.flag}), DEEP),
    (schema.settings(GreedyConfig), {**SETTINGS, "factor": 2.0}),
    (schema.settings(GreedyConfig), {**SETTINGS, "window": 2**60}),
    (schema.settings(GreedyConfig), {**SETTINGS, "speed": 1}),
]


@pytest.mark.parametrize(("check", "value"), LEGAL)
def test_what_is_legal_passes(check: schema.Check, value: Any):
    check("here", value)


@pytest.mark.parametrize(("check", "value"), ILLEGAL)
def test_what_is_not_is_named_in_a_few_words(check: schema.Check, value: Any):
    with pytest.raises(InvalidState, match=r"^here") as caught:
        check("here", value)
    assert len(str(caught.value)) < 300
