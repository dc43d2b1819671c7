"""Pieces of work: sizes, losses and late ones, with a clock of the test's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ratewise.pool import pieces
from ratewise.pool.pieces import LATE, LATE_SECONDS, SECONDS, TRIES, Piece, Pieces


def given(found: Pieces, now: float = 0.0, worker: int = 0, workers: int = 1) -> Piece:
    piece = found.next(now, worker, workers)
    assert piece is not None
    return piece


def test_a_piece_takes_about_a_second_once_it_is_known_how_long_an_item_takes():
    found = Pieces(10_000, workers=2)
    first = given(found)
    assert len(first.numbers) == 1
    found.done(first, SECONDS / 50)
    assert len(given(found).numbers) == 50


def test_long_items_go_alone_and_the_end_is_shared():
    found = Pieces(1_000, workers=4)
    found.done(given(found), 100.0)
    assert len(given(found).numbers) == 1
    short = Pieces(100, workers=4)
    short.done(given(short), 1e-6)
    sizes = []
    while short.next(0.0) is not None:
        sizes.append(len(max(short._open, key=lambda piece: piece.numbers).numbers))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 12
    assert sizes[-1] == 1
    assert sum(sizes) == 99


def test_a_lost_piece_is_begun_again_item_by_item_and_one_that_is_to_blame_is_given_up():
    found = Pieces(20, workers=1)
    found.done(given(found), SECONDS / 9)
    piece = given(found)
    assert piece.numbers == tuple(range(1, 10))
    assert found.lost(piece) == []
    over: list[int] = []
    losses = 1
    while not found.over:
        one = given(found)
        if 4 in one.numbers:
            assert one.numbers == (4,)
            losses += 1
            over += found.lost(one)
        else:
            found.done(one, 0.01)
    assert over == [4]
    assert losses == TRIES


def test_a_late_piece_is_made_a_second_time_once_and_whoever_is_first_counts():
    found = Pieces(3, workers=2)
    found.done(given(found), 5.0)
    slow, quick = given(found, now=0.0), given(found, now=0.0)
    assert found.done(quick, 5.0) == [2]
    late = max(LATE_SECONDS, LATE * 5.0)
    assert found.next(late) is None
    copy = given(found, now=late + 0.1)
    assert copy.numbers == slow.numbers
    assert found.next(2 * late) is None, "a third time"
    assert found.lost(slow) == [], "its copy goes on"
    assert not found.over
    assert found.done(copy, 5.0) == [1]
    assert found.over


def test_where_another_worker_would_be_no_quicker_what_is_late_is_waited_for():
    found = Pieces(2, workers=2, most=1, copies=False)
    found.done(given(found), 1.0)
    given(found)
    assert found.next(1e6) is None


def test_the_first_of_two_counts_and_the_second_is_forgotten():
    found = Pieces(2, workers=2)
    found.done(given(found), 1.0)
    slow = given(found)
    copy = given(found, now=1e6)
    assert found.done(slow, 1e6) == [1]
    assert found.done(copy, 1.0) == []
    assert found.over


def test_items_of_a_place_wait_for_their_worker():
    found = Pieces(6, workers=2, place=lambda number: number)
    assert [given(found, worker=1, workers=2).numbers for _ in range(3)] == [(1,), (3,), (5,)]
    assert found.next(0.0, worker=1, workers=2) is None
    assert given(found, worker=0, workers=2).numbers == (0,)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_lost_or_late_each_item_is_done_once(
    monkeypatch: pytest.MonkeyPatch, seed: int
):
    """At random; with the negative control that losses without end give items up."""
    monkeypatch.setattr(pieces, "TRIES", 3 if seed % 2 else 10**6)
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    found = Pieces(count, workers=3, most=int(rng.integers(1, 9)))
    flying: list[Piece] = []
    done: list[int] = []
    for now in itertools.count():
        while len(flying) < 3 and (piece := found.next(10.0 * now)) is not None:
            flying.append(piece)
        if found.over:
            break
        piece = flying.pop(int(rng.integers(len(flying))))
        if rng.random() < 0.4:
            done += found.lost(piece)
        else:
            done += found.done(piece, float(rng.exponential(0.3)))
    assert sorted(done) == list(range(count))
