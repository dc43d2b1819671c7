"""The store: sums that are exact with ids, decay without, and keep to their memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ratewise.nmf.statistics import Statistics, Sums, entry_bytes

pytestmark = pytest.mark.numerics

RNG = np.random.default_rng(0)


def batch(rows: int = 5, k: int = 3, m: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return RNG.random((k, rows)), RNG.random((rows, m))


def sums(codes: np.ndarray, x: np.ndarray) -> Sums:
    return Sums(codes @ codes.T, codes @ x, float((x**2).sum()), float(codes.sum()), len(x))


def assert_same(ours: Sums, theirs: Sums):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_with_ids_the_total_is_that_of_the_last_codes():
    batches = [batch() for _ in range(4)]
    store = Statistics(np.inf)
    for _ in range(7):
        for key, (codes, x) in enumerate(batches):
            codes = RNG.random(codes.shape)
            batches[key] = codes, x
            total = store.put(sums(codes, x), key, 0.5)
    whole = sums(np.hstack([c for c, _ in batches]), np.vstack([x for _, x in batches]))
    assert store.exact
    assert_same(total, whole)


def test_rounding_does_not_pile_up_over_a_thousand_rounds():
    store = Statistics(np.inf)
    for turn in range(1000):
        scale = 1e6 if turn < 500 else 1.0  # large sums leave large errors behind
        for key in range(3):
            codes, x = batch()
            total = store.put(sums(scale * codes, x), key, 0.5)
    assert total.gram.min() > 0
    entries = list(store._entries.values())
    np.testing.assert_allclose(total.cross, sum(e.cross for e in entries), rtol=1e-14)


def test_without_ids_sums_decay():
    store, expected = Statistics(np.inf), None
    for _ in range(5):
        one = sums(*batch())
        total = store.put(one, None, 0.3)
        expected = one if expected is None else expected.fading(0.3).plus(one)
    assert_same(total, expected)
    assert not store.exact
    forgetful = Statistics(np.inf)
    forgetful.put(sums(*batch()), None, 0.0)
    last = sums(*batch())
    assert_same(forgetful.put(last, None, 0.0), last)


def test_both_kinds_add_up():
    store = Statistics(np.inf)
    a, b, c = (sums(*batch()) for _ in range(3))
    store.put(a, "a", 0.5)
    store.put(b, None, 0.5)
    assert_same(store.put(c, None, 0.5), a.plus(b.fading(0.5)).plus(c))
    assert_same(store.put(b, "a", 0.5), b.plus(b.fading(0.5)).plus(c))


def test_loss_is_that_of_the_definition():
    codes, x = batch(8)
    parts = RNG.random((3, 6))
    expected = ((x - codes.T @ parts) ** 2).sum() / 2
    assert sums(codes, x).loss(parts @ parts.T, parts) == pytest.approx(expected, rel=1e-12)
    exact = sums(codes, codes.T @ parts).loss(parts @ parts.T, parts)
    assert 0.0 <= exact < 1e-12 * (x**2).sum()


def test_a_loss_of_nan_is_not_zero():
    """max(0.0, nan) is 0.0: a fit that has overflowed would look exact."""
    codes, x = batch(8)
    parts = np.full((3, 6), np.nan)
    assert np.isnan(sums(codes, x).loss(parts @ parts.T, parts))


def test_scaled_codes_have_scaled_sums():
    scale = np.array([2.0, 0.5, 3.0])
    store = Statistics(np.inf)
    batches = [batch() for _ in range(3)]
    store.put(sums(*batches[0]), "a", 0.5)
    store.put(sums(*batches[1]), None, 0.5)
    store.scale(scale)
    total = store.put(sums(*batches[2]), None, 0.5)
    of = [sums(codes * scale[:, None], x) for codes, x in batches[:2]]
    expected = of[1].fading(0.5).plus(sums(*batches[2])).plus(of[0])
    for ours, theirs in zip(total[:3], expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_an_interrupted_put_leaves_what_there_was(monkeypatch: pytest.MonkeyPatch):
    store = Statistics(np.inf)
    one, two, three = (sums(*batch()) for _ in range(3))
    store.put(one, 0, 0.5)
    store.put(two, 1, 0.5)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Sums, "plus", interrupted)
        patched.setattr(Sums, "replacing", interrupted)
        for key in (0, 2, None):
            with pytest.raises(KeyboardInterrupt):
                store.put(three, key, 0.5)
    assert_same(store.put(three, 0, 0.5), two.plus(three))


def test_beyond_its_memory_it_decays_with_one_warning():
    size = entry_bytes(sums(*batch()))
    assert size == 3 * (3 + 6) * 8
    store = Statistics(2 * size)
    one, two, three = (sums(*batch()) for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put(one, 0, 0.5)
        store.put(two, 1, 0.5)
    with pytest.warns(UserWarning, match=r"3 batches take 648 bytes, more than max_memory=432"):
        total = store.put(three, 2, 0.5)
    assert_same(total, one.plus(two).fading(0.5).plus(three))
    assert not store.keyed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(store.put(one, 0, 0.5), total.fading(0.5).plus(one))


def test_ids_can_be_forgotten_and_the_total_stays():
    store = Statistics(np.inf)
    one, two = sums(*batch()), sums(*batch())
    store.put(one, 0, 0.5)
    total = store.put(two, 1, 0.5)
    store.forget_ids()
    assert_same(store.total, total)
    assert_same(store.put(one, 0, 0.5), total.plus(one))
    assert_same(store.put(two, None, 0.5), total.fading(0.5).plus(two).plus(one))
