"""Published sets in two tables, and branches that get their trunk's beginning."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ratewise.curves import Curve, Series, read
from ratewise.curves.branches import join, joined
from ratewise.errors import InvalidArgument, UnknownName

RUNS = (
    "run,schedule,cooldown,peak_lr,steps,warmup,first_iter\n"
    "0,constant,,0.1,4000,100,50\n1,wsd,0.5,0.1,4000,100,2050\n2,cosine,,0.1,2000,100,50\n"
)


def points(run: int, begin: int, end: int, rate: float) -> str:
    rows = [f"{run},{begin - 50},,,3.5"]
    rows += [f"{run},{i},{rate},{3 + run + 100 / i},{3.0}" for i in range(begin, end + 1, 50)]
    return "\n".join(rows) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "run,iter,lr,train_loss,val_loss\n"
    text += points(0, 50, 4000, 0.1) + points(1, 2050, 4000, 0.05) + points(2, 50, 2000, 0.1)
    (tmp_path / "set-runs.csv").write_text(RUNS)
    (tmp_path / "set-curves.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_a_late_run_has_the_constant_one_s_beginning(folder: Path):
    trunk, branch, other = read(folder).curves
    assert [curve.name for curve in (trunk, branch, other)] == ["set/0", "set/1", "set/2"]
    assert branch.facts.parent == ""  # it is whole
    assert branch.train_loss.step.tolist() == trunk.train_loss.step.tolist()
    early, late = branch.train_loss.until(2000), branch.train_loss.after(2000)
    assert early.value.tolist() == trunk.train_loss.until(2000).value.tolist()
    assert late.value - trunk.train_loss.after(2000).value == pytest.approx(1.0)
    assert set(branch.rates()[100:1900]) == {0.1}
    assert set(branch.rates()[2049:]) == {0.05}
    assert branch.rates()[49] == pytest.approx(0.1, rel=1)  # of the warmup
    alone = read(folder, join=False).curves[1]
    assert (alone.train_loss.step[0], alone.facts.parent) == (2050, "set/0")


def curve(name: str, first: int, last: int) -> Curve:
    step = np.arange(first, last + 1, 10)
    return Curve(name, Series.of(step, 0.1 + 0 * step), Series.of(step, 1.0 + first + 0 * step))


def test_branches_of_branches():
    whole = joined(
        [curve("c", 210, 300), curve("b", 110, 300), curve("a", 10, 300)],
        {"c": "b", "b": "a"},
    )
    values = whole[0].train_loss.value
    assert [one.name for one in whole] == ["c", "b", "a"]
    assert values.tolist() == [11.0] * 10 + [111.0] * 10 + [211.0] * 10


def test_at_says_where_the_trunk_was_left():
    both = join(curve("b", 110, 300), curve("a", 10, 300), at=200)
    assert both.train_loss.value.tolist() == [11.0] * 20 + [111.0] * 10


def test_a_trunk_that_is_too_short_absent_or_in_a_circle_is_refused():
    with pytest.raises(InvalidArgument, match="ends at step 50, before 'b' begins"):
        join(curve("b", 110, 300), curve("a", 10, 50))
    with pytest.raises(UnknownName, match="unknown run 'x'"):
        joined([curve("a", 10, 50)], {"a": "x"})
    with pytest.raises(InvalidArgument, match="circle: a -> b -> a"):
        joined([curve("a", 10, 50), curve("b", 10, 50)], {"a": "b", "b": "a"})
