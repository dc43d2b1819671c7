"""Many runs in one file: the same to the bit, and seen by everything that reads the store."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import astuple, replace
from pathlib import Path

import duckdb
import pytest
from tests.compare.records import record

from ratewise.errors import InvalidArgument
from ratewise.runs import RunRecord, Store, batch_id, make_run_id

ODD = (
    math.nan,
    -math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    0.1,
    1 / 3,
)
FIRST, SECOND = ([record(seed=seed) for seed in seeds] for seeds in (range(4), range(4, 8)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs-of-mine")


def ids(runs: list[RunRecord]) -> list[str]:
    return [run.run_id for run in runs]


def bits(value: object) -> object:
    """Everything in a record, with each float as its bits; up to DuckDB 1.5 there is one NaN."""
    if isinstance(value, float):
        nan = math.isnan(value) and duckdb.__version__.startswith("1.")
        return "nan" if nan else struct.pack("<d", value).hex()
    if isinstance(value, RunRecord):
        return bits(astuple(value))
    return [bits(item) for item in value] if isinstance(value, list | tuple) else value


def random_run(rng: random.Random, seed: int) -> RunRecord:
    steps = rng.choice([0, 1, 2, 30])

    def history() -> list[float]:
        any_double = struct.unpack(f"<{steps}d", rng.randbytes(8 * steps))
        return [rng.choice(ODD) if rng.random() < 0.5 else number for number in any_double]

    return replace(
        record(seed=seed, task=rng.choice(["a", "it's", 'b "ü" \n'])),
        diverged_at=rng.choice([None, 3, 2**40]),
        train_step=list(range(1, steps + 1)),
        train_loss=history(),
        seen_loss=rng.choice([[], history()]),
        lr=history(),
        grad_norm=rng.choice([[], history()]),
        update_ratio=history(),
        test_metric=[math.nan] * 4,
        train_seconds=rng.choice(ODD),
        config={**record(seed=seed).config, "nested": {"x": [1, None, "ü"]}},
    )


@pytest.mark.parametrize("count", [1, 2, 40])
def test_what_goes_in_comes_out_to_the_bit(tmp_path: Path, count: int):
    rng = random.Random(count)
    for attempt in range(5):
        store = Store(tmp_path / str(attempt))
        runs = [random_run(rng, seed) for seed in range(count)]
        runs = [replace(run, run_id=make_run_id(run.config)) for run in runs]
        store.add_all(runs)
        loaded = {run.run_id: run for run in Store(store.folder).load()}
        assert [bits(loaded[run.run_id]) for run in runs] == [bits(run) for run in runs]
        alone = Store(tmp_path / f"{attempt}-alone")
        for run in runs:
            alone.add(run)
        assert bits(alone.load()) == bits(store.load())


def test_equal_numbers_of_different_bits_stay_apart(store: Store):
    """Encoded as a dictionary, a column of many rows and few values would keep one of each."""
    zeros, nans = [0.0, -0.0, 1.0] * 10, [math.nan, -math.nan, 1.0] * 10
    lists = {"train_step": list(range(30)), "train_loss": nans, "lr": zeros}
    runs = [replace(record(seed=seed), **lists) for seed in range(40)]
    store.add_all(runs)
    assert bits(store.load()) == bits(runs)


def test_a_bit_more_or_less_would_be_noticed():
    run = record()
    for other in (math.nextafter(0.5, 1.0), math.nan):
        assert bits(replace(run, train_seconds=other)) != bits(replace(run, train_seconds=0.5))
    assert bits(replace(run, train_loss=[0.0])) != bits(replace(run, train_loss=[-0.0]))


def test_everything_that_reads_sees_runs_in_batches(store: Store):
    alone = record(seed=100)
    store.add(alone)
    other = Store(store.folder)
    assert other.run_ids() == {alone.run_id}
    path = store.add_all(FIRST)
    assert path.name == f"{batch_id(ids(FIRST))}.parquet"
    for each in (store, other, Store(store.folder)):
        assert each.run_ids() == {alone.run_id, *ids(FIRST)}
        assert all(run.run_id in each for run in [alone, *FIRST])
        assert SECOND[0].run_id not in each
        assert each.load() == [*FIRST, alone]
        assert each.query("SELECT count(*), max(seed) FROM runs") == [(5, 100)]
    path.unlink()
    assert other.run_ids() == {alone.run_id}
    assert FIRST[0].run_id not in other


def test_has_all_asks_for_exactly_these_runs(store: Store):
    store.add_all(reversed(FIRST))
    store.add(SECOND[0])
    assert store.has_all(ids(FIRST))
    assert store.has_all(reversed(ids(FIRST)))
    assert not store.has_all(ids(FIRST[:-1]))
    assert not store.has_all(ids(SECOND[:1]))
    assert not store.has_all(ids(FIRST + SECOND))


def test_the_same_runs_replace_their_file(store: Store):
    assert store.add_all(FIRST) == store.add_all(FIRST[::-1])
    assert store.load() == FIRST


def test_a_run_in_several_files_counts_once_and_its_own_file_comes_first(store: Store):
    own = replace(FIRST[1], train_seconds=9.0)
    store.add_all(FIRST)
    store.add_all(FIRST[1:] + SECOND)
    store.add(own)
    expected = [FIRST[0], own, *FIRST[2:], *SECOND]
    assert store.load() == expected
    assert store.run_ids() == set(ids(expected))
    assert store.query("SELECT seed, train_seconds FROM runs ORDER BY seed") == [
        (run.seed, run.train_seconds) for run in expected
    ]


def test_names_what_is_wrong(store: Store):
    with pytest.raises(InvalidArgument, match="got '0 records of 0 runs'"):
        store.add_all([])
    with pytest.raises(InvalidArgument, match="got '2 records of 1 runs'"):
        store.add_all([FIRST[0], FIRST[0]])
    with pytest.raises(InvalidArgument, match="run_ids must be one or more ids"):
        store.has_all([])
    with pytest.raises(InvalidArgument, match=r"the record's grad_norm must be without None"):
        store.add_all([FIRST[0], replace(FIRST[1], grad_norm=[1.0, None])])
    assert store.load() == []


def test_a_folder_named_like_a_pattern_works(tmp_path: Path):
    store = Store(tmp_path / "runs [1]*?{x}")
    store.add_all(FIRST)
    store.add(SECOND[0])
    assert store.load() == [*FIRST, SECOND[0]]
    assert Store(store.folder).run_ids() == {*ids(FIRST), SECOND[0].run_id}
    assert store.query("SELECT count(*) FROM runs") == [(5,)]
