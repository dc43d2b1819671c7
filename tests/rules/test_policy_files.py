"""Weight files from strangers: refused by name, or a policy whose word is finite and bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.rules.policies import WIDE, random_nmf_policy, random_policy, rewrite, said

from ratewise.errors import CorruptPolicy, InvalidArgument, UnknownName, WrongType
from ratewise.nmf import learned as nmf
from ratewise.rules import learned, policy_files
from ratewise.rules.network import LARGEST, MOST_WINDOWS

KINDS = {"steering": (learned, random_policy), "nmf": (nmf, random_nmf_policy)}
HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a word": "x",
    "a flag": True,
    "a list": [1],
    "an object": {"a": 1},
    "zero": 0,
    "negative": -3,
    "a fraction": 2.5,
    "2^63": 2**63,
    "10^400": 10**400,
    "infinite": float("inf"),
    "no number": float("nan"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    """Return a module that loads policies, and the file of one of its kind."""
    module, random = KINDS[request.param]
    path = tmp_path / "own.safetensors"
    random(provenance={"seed": 1}).save(path)
    return module, path


def refused(module: Any, path: Path, match: str) -> None:
    with pytest.raises(CorruptPolicy, match=match) as error:
        module.load(path)
    assert "own.safetensors" in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_file_that_is_left_alone_is_read(kind: tuple[Any, Path]):
    module, path = kind
    rewrite(path, lambda about, tensors: None)
    assert module.load(path).digest == said(path)["digest"]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_an_impossible_number_of_windows_is_refused(kind: tuple[Any, Path], value: Any):
    module, path = kind
    rewrite(path, lambda about, tensors: about.update(windows=value))
    refused(module, path, "metadata do not fit .*windows|damaged.*is no number of JSON")


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "field", ["bound", "schedule", "law", "known", "pretrained", "level", "power", "free", "least"]
)
def test_an_impossible_setting_is_refused(tmp_path: Path, field: str, value: Any):
    path = tmp_path / "own.safetensors"
    random_policy().save(path)

    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        law = about["law"]
        next(x for x in (law["known"], law, about) if field in x)[field] = value

    rewrite(path, change)
    # some of these are legal of some fields: then the digest tells
    refused(learned, path, f"metadata do not fit .*{field}|damaged")


@pytest.mark.parametrize("value", [value for value in HOSTILE.values() if value != {"a": 1}])
@pytest.mark.parametrize("field", ["format", "features", "low", "high", "provenance", "digest"])
def test_what_every_policy_says_is_checked(kind: tuple[Any, Path], field: str, value: Any):
    module, path = kind
    rewrite(path, lambda about, tensors: about.update({field: value}))
    refused(module, path, "own")


@pytest.mark.parametrize("field", ["format", "features", "low", "windows", "provenance", "digest"])
def test_a_field_that_is_missing_is_named(kind: tuple[Any, Path], field: str):
    module, path = kind
    rewrite(path, lambda about, tensors: about.pop(field) and None)
    refused(module, path, f"no '{field}'")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"format": ' * 100_000 + "1" + "}" * 100_000, "characters|nested too deeply"),
        ("[]", "metadata do not fit"),
        ("null", "metadata do not fit"),
        ("1e999", "metadata do not fit"),
        (json.dumps("x" * policy_files.MOST_CHARACTERS), "characters"),
    ],
    ids=["a deep list", "a deep object", "a list", "nothing", "a number", "a long text"],
)
def test_metadata_that_are_no_object_of_json_are_refused(
    kind: tuple[Any, Path], text: str, match: str
):
    module, path = kind
    rewrite(path, lambda about, tensors: text)
    refused(module, path, match)


def test_a_provenance_may_be_anything_but_deep(kind: tuple[Any, Path]):
    module, path = kind
    deep: Any = 1
    for _ in range(policy_files.MOST_DEPTH - 2):
        deep = [deep, {}]
    rewrite(path, lambda about, tensors: about.update(provenance={"a": deep}))
    assert module.load(path).provenance == {"a": deep}
    rewrite(path, lambda about, tensors: about.update(provenance={"a": [[deep]]}))
    refused(module, path, "at most 32 deep")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensors: tensors["0.weight"].__setitem__((0, 0), np.inf), "finite numbers"),
        (lambda tensors: tensors["1.bias"].__setitem__(0, 3e38), "finite numbers"),
        (lambda tensors: tensors.update({"0.bias": tensors["0.bias"].astype(np.float64)}), "F64"),
        (lambda tensors: tensors.update(more=tensors["0.bias"]), "tensors of no layer: more"),
        # safetensors before 0.5 reads no file without tensors
        (lambda tensors: tensors.clear(), "one output|InvalidHeader"),
        (lambda tensors: tensors.update({"0.weight": tensors["0.weight"].T.copy()}), "layers"),
        (
            lambda tensors: tensors.update({f"{i}.bias": tensors["0.bias"] for i in range(70)}),
            "more than 32 layers",
        ),
    ],
    ids=["infinite", "huge", "double", "odd", "none", "turned", "many"],
)
def test_tensors_that_are_no_network_are_refused(kind: tuple[Any, Path], change: Any, match: str):
    module, path = kind
    rewrite(path, lambda about, tensors: change(tensors))
    refused(module, path, match)


def test_weights_that_were_changed_are_told_by_the_digest(kind: tuple[Any, Path]):
    module, path = kind
    whole = bytearray(path.read_bytes())
    whole[-2] ^= 1  # of the last weight: a finite number as before
    path.write_bytes(whole)
    refused(module, path, "not those that were written")


def test_settings_that_were_changed_are_told_by_the_digest(kind: tuple[Any, Path]):
    module, path = kind
    rewrite(path, lambda about, tensors: about.update(windows=about["windows"] + 1))
    refused(module, path, "not those that were written")


def test_the_first_format_had_no_digest_and_is_read(kind: tuple[Any, Path]):
    module, path = kind
    digest = module.load(path).digest
    rewrite(path, lambda about, tensors: about.update(format=1) or (about.pop("digest") and None))
    assert module.load(path).digest == digest


def test_a_file_that_is_too_large_is_not_opened(kind: tuple[Any, Path]):
    module, path = kind
    with path.open("ab") as file:
        file.truncate(policy_files.MOST_BYTES + 1)
    refused(module, path, "too large for a policy")


@pytest.mark.parametrize("name", ["", "x" * 10_000, "a\0b", "."])
def test_a_name_that_no_file_can_have_is_unknown(name: str):
    with pytest.raises(UnknownName, match="unknown policy") as error:
        learned.load(name)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("policy", [None, 3, b"default", ["default"]])
def test_what_is_no_name_is_refused(policy: Any):
    with pytest.raises(WrongType, match="policy must be a name"):
        learned.load(policy)


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": MOST_WINDOWS + 1},
        {"windows": 2**63},
        {"low": np.full(12, np.nan, np.float32)},
        {"biases": (np.full(8, 2 * LARGEST, np.float32), np.zeros(1, np.float32))},
        {"biases": (np.zeros(8), np.zeros(1))},
        {"biases": (np.zeros(8, np.float32),)},
        {"bound": "1"},
    ],
)
def test_a_policy_that_could_not_be_written_is_not_made(changes: dict[str, Any]):
    with pytest.raises(InvalidArgument):
        random_policy(**changes)


def test_the_largest_weights_that_are_allowed_speak_in_finite_numbers():
    largest = np.full((8, WIDE), LARGEST, np.float32)
    signs = np.where(np.arange(8) % 2, 1, -1).astype(np.float32)[None] * np.float32(LARGEST)
    policy = random_policy(weights=(largest, signs))
    zero = np.zeros((), np.float32)
    with np.errstate(all="raise"):
        action, inside = policy.on(zero, np)(np.full(WIDE, 5.0, np.float32), xp=np)
    assert inside
    assert -1.0 <= action <= 1.0


@pytest.mark.parametrize("module", [learned, nmf], ids=KINDS)
def test_what_ships_has_the_digest_of_its_weights(module: Any):
    folder = learned.FOLDER if module is learned else nmf.NMF_FOLDER
    for name in module.names():
        about = said(folder / f"{name}.safetensors")
        assert (about["format"], about["digest"]) == (2, module.load(name).digest)
