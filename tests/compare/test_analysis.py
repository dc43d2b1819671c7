"""Cells, pairs and outcomes from made-up runs with known answers; both negative controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.compare.records import INITIAL, RATES, asked, comparison, record, runs_of

from ratewise.compare import analysis, tuning
from ratewise.compare.analysis import Runs, compare, sides
from ratewise.compare.outcomes import against_rate, drawn, history, outcomes
from ratewise.compare.tuning import MethodOnTask
from ratewise.errors import StoreError
from ratewise.runs import Store

LOG = math.log


def noise(task: str, optimizer: str, schedule: str, seed: int) -> float:
    """A loss near 0.5 that depends on task and seed alone: pairs differ by nothing."""
    return 0.5 + 0.05 * math.sin(7 * seed + len(task))


def test_tuned_pairs_have_the_ratio_they_were_made_with():
    runs = runs_of(lambda t, o, s, seed: noise(t, o, s, seed) * (0.9 if s == "greedy" else 1.0))
    pair = compare(runs, "greedy", "cosine")
    assert [cell.verdict for cell in pair.cells] == ["better", "better"]
    assert pair.overall.estimate == pytest.approx(LOG(0.9))
    assert pair.interquartile == pytest.approx(LOG(0.9))
    assert pair.improvement > 0.8
    assert (pair.non_inferior, pair.decided, pair.diverged) == (2, 2, (0, 0))
    other = compare(runs, "cosine", "greedy")
    assert [cell.verdict for cell in other.cells] == ["worse", "worse"]
    assert other.overall.estimate == pytest.approx(-LOG(0.9))


def test_tasks_that_share_a_data_set_do_not_count_twice():
    tasks = ["digits-mlp", "digits-cnn", "diabetes-mlp"]
    better = dict(zip(tasks, (0.8, 0.82, 0.9), strict=True))
    records, plan = comparison(
        lambda t, o, s, seed: noise(t, o, s, seed) * (better[t] if s == "greedy" else 1.0),
        tasks=tasks,
    )
    alone = compare(Runs(records, plan), "greedy", "cosine").overall
    assert (alone.n, alone.over, alone.beside) == (3, "tasks", None)
    plan["data_sets"] = {task: task.split("-")[0] for task in tasks}
    shared = compare(Runs(records, plan), "greedy", "cosine").overall
    assert (shared.n, shared.over, shared.beside) == (2, "data sets", alone)
    assert shared.high > alone.high


def test_same_rate_pairs_each_rate_and_leaves_the_extension_out():
    records, plan = comparison(noise)
    records.append(record(schedule="greedy", base_lr=1.0, seed=0, loss=math.inf, role="grid"))
    cell = compare(Runs(records, plan), "greedy", "cosine", "same rate").cells[0]
    assert cell.log_ratios.shape == (2, len(RATES))
    assert not cell.log_ratios.any()
    assert cell.unpaired == 0


def test_what_lacks_its_pair_is_counted_not_hidden():
    records, plan = comparison(noise, tasks=["digits-mlp"])
    lost = [r for r in records if (r.schedule, r.seed) != ("cosine", 1003)]
    cell = compare(Runs(lost, plan), "greedy", "cosine").cells[0]
    assert cell.seeds == (1000, 1001, 1002, 1004)
    assert cell.unpaired == 1


def test_diverged_runs_stay_in():
    def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
        return math.inf if schedule == "greedy" and seed == 2 else 0.5

    pair = compare(runs_of(loss, tasks=["digits-mlp"]), "greedy", "cosine")
    assert pair.diverged == (1, 0)
    assert pair.cells[0].log_ratios.ravel().tolist() == pytest.approx(
        [0, 0, LOG(10 * INITIAL / 0.5), 0, 0]
    )


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [({0, 1, 2, 3, 4}, "better"), ({1, 2, 3, 4}, "better"), ({1}, "undecided")],
)
def test_a_cell_with_runs_that_diverged_alone_has_no_interval(theirs: set[int], verdict: str):
    """Fisher's exact test decides on their numbers: 4 of 5 against none is enough, 1 is not."""

    def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
        return math.inf if schedule == "cosine" and seed in theirs else 0.5

    runs = runs_of(loss, tasks=["digits-mlp"])
    pair, other = compare(runs, "greedy", "cosine"), compare(runs, "cosine", "greedy")
    (cell,) = pair.cells
    assert (cell.alone, cell.diverged) == (True, (0, len(theirs)))
    assert (cell.interval.low, cell.interval.high) == (-math.inf, math.inf)
    assert (pair.overall.low, pair.overall.high) == (-math.inf, math.inf)  # it has one task
    assert cell.verdict == verdict
    assert other.cells[0].verdict == {"better": "worse"}.get(verdict, verdict)


def test_runs_that_diverged_together_leave_the_interval():
    runs = runs_of(lambda t, o, s, seed: math.inf if seed == 2 else noise(t, o, s, seed))
    for cell in compare(runs, "greedy", "cosine").cells:
        assert (cell.alone, cell.diverged) == (False, (1, 1))
        assert math.isfinite(cell.interval.high)


def test_a_share_of_the_steps_takes_the_loss_there():
    runs = runs_of(lambda t, o, s, seed: 0.4 if s == "greedy" else 0.8, tasks=["digits-mlp"])
    assert compare(runs, "greedy", "cosine", share=0.1).overall.estimate == 0.0
    half = compare(runs, "greedy", "cosine", share=0.5).overall.estimate
    assert half == pytest.approx(LOG(1.2 / 1.4))


def test_negative_control_cosine_against_itself_with_other_seeds():
    """The same distribution twice: about 1 cell in 20 may be called better, and as many worse."""
    rng = np.random.default_rng(0)
    tasks = [f"task-{i}" for i in range(60)]
    table = {
        (t, s, i): math.exp(rng.normal(0, 0.05)) for t in tasks for s in "ab" for i in range(8)
    }
    runs = runs_of(
        lambda t, o, s, seed: table[t, s, seed], tasks=tasks, schedules=("a", "b"), seeds=8
    )
    pair = compare(runs, "a", "b")
    assert pair.verdicts["better"] <= 8
    assert pair.verdicts["worse"] <= 8
    assert pair.overall.low < 0 < pair.overall.high


@pytest.mark.parametrize("seeds", [5, 8])
def test_negative_control_cosine_with_three_percent_more_loss(seeds):
    rng = np.random.default_rng(seeds)
    tasks = [f"task-{i}" for i in range(12)]
    drawn = {(t, i, s): rng.normal(0, 0.004) for t in tasks for i in range(seeds) for s in "ab"}
    runs = runs_of(
        lambda t, o, s, seed: math.exp(drawn[t, seed, s]) * (1.03 if s == "a" else 1.0),
        tasks=tasks,
        schedules=("a", "b"),
        seeds=seeds,
    )
    pair = compare(runs, "a", "b")
    assert pair.non_inferior == 0
    assert pair.verdicts["worse"] >= 11
    assert pair.overall.low > 0


def test_the_paper_s_count_sees_nothing_where_losses_are_small():
    runs = runs_of(lambda t, o, s, seed: 0.09 if s == "greedy" else 0.01)
    pair = compare(runs, "greedy", "cosine")
    assert pair.verdicts["worse"] == 2
    assert pair.paper_count()["worse"] == 0
    assert pair.below_margin() == 1.0
    far = compare(runs_of(lambda t, o, s, seed: 0.9 if s == "greedy" else 0.5), "greedy", "cosine")
    assert far.paper_count()["worse"] == 2
    assert far.below_margin() == 0.0


def test_tuned_rate_is_the_lowest_median_and_divergence_is_infinite():
    grid = {0.001: (0.6, 0.6, 0.6), 0.01: (0.1, math.inf, math.inf), 0.1: (0.5, 0.7, 0.4)}
    records = [
        record(base_lr=rate, seed=seed, loss=loss, role="grid")
        for rate, losses in grid.items()
        for seed, loss in enumerate(losses)
    ]
    found = tuning.tuned_rates(records)[MethodOnTask("digits-mlp", "adamw", "cosine")]
    assert (found.base_lr, found.validation_loss, found.at_edge, found.runs) == (0.1, 0.5, 1, 9)


def test_the_grid_grows_at_its_edge_and_stops():
    key = MethodOnTask("t", "o", "s")
    asked_for = {key: [0.01, 0.1, 1.0]}
    low = {key: tuning.Tuned(0.01, 0.5, -1, 3)}
    tried = [0.01, 0.1, 1.0]
    for _ in range(tuning.EXTENSIONS):
        more = tuning.extended(low, {key: tried}, asked_for)
        assert more[key] == pytest.approx(min(tried) / 10)
        tried = [*tried, more[key]]
    assert tuning.extended(low, {key: tried}, asked_for) == {}
    inside = {key: tuning.Tuned(0.1, 0.5, 0, 3)}
    assert tuning.extended(inside, {key: [0.01, 0.1, 1.0]}, asked_for) == {}
    high = {key: tuning.Tuned(1.0, 0.5, 1, 3)}
    assert tuning.extended(high, {key: [0.01, 0.1, 1.0]}, asked_for) == {key: 10.0}


def test_only_judged_runs_at_the_tuned_rate_count():
    records, plan = comparison(noise, tasks=["digits-mlp"])
    stale = record(schedule="greedy", base_lr=0.1, seed=1000, loss=9.0)
    runs = Runs([*records, stale], plan)
    assert stale not in runs.judged(MethodOnTask("digits-mlp", "adamw", "greedy"))
    assert compare(runs, "greedy", "cosine").overall.estimate == 0.0


def test_outcomes_give_budget_losses_on_the_way_and_steps_to_target():
    def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
        return {"greedy": 0.5, "cosine": 0.8, "linear": math.inf}[schedule]

    schedules = ("greedy", "cosine", "linear")
    runs = runs_of(loss, tasks=["digits-mlp"], schedules=schedules)
    greedy, cosine, linear = outcomes(runs, "cosine")
    assert greedy.losses == (2.0, 1.25, 0.5)
    assert greedy.tuned.runs == 6
    assert (greedy.steps_to_target, greedy.reached) == (100.0, 5)
    assert (cosine.steps_to_target, cosine.reached) == (100.0, 5)
    assert (linear.steps_to_target, linear.reached, linear.diverged) == (math.inf, 0, 5)
    assert linear.losses[-1] == math.inf
    assert greedy.seconds == 1.5


def test_curves_are_medians_between_quartiles_and_capped():
    runs = runs_of(lambda t, o, s, seed: [0.2, 0.4, math.inf][seed % 3], seeds=3)
    key = MethodOnTask("digits-mlp", "adamw", "greedy")
    assert history(runs, key).middle[0] == INITIAL
    assert history(runs, key).high[-1] <= 10 * INITIAL
    assert drawn(runs, key).middle[0] == runs.tuned[key].base_lr
    rates = against_rate(runs, key)
    assert rates.x == list(RATES)
    assert max(rates.high) <= 10 * INITIAL


def test_sides_without_greedy_take_the_first_schedule():
    assert sides(["linear", "step"]) == (["linear"], ["step"], "step")
    assert sides(["greedy", "transformers-greedy"])[1] == ["transformers-greedy"]


def test_a_store_without_a_comparison_says_so(tmp_path):
    with pytest.raises(StoreError, match="holds no comparison yet"):
        analysis.load(Store(tmp_path / "runs"))


def test_records_of_earlier_comparisons_are_left_out(tmp_path):
    store = Store(tmp_path / "runs")
    mine, other = record(seed=1000), record(seed=1001)
    store.add(mine)
    store.add(other)
    store.write_sweep(
        {"plan": asked(["digits-mlp"], ["cosine"], 1, ["adamw"]), "runs": [mine.run_id]}
    )
    assert [run.run_id for run in analysis.load(store).records] == [mine.run_id]


def test_data_sets_of_a_plan_are_checked_and_may_be_absent(tmp_path):
    store = Store(tmp_path / "runs")
    store.add(record(seed=1000))
    plan = asked(["digits-mlp"], ["cosine"], 1, ["adamw"])
    store.write_sweep({"plan": {**plan, "data_sets": {"digits-mlp": 3}}, "runs": []})
    with pytest.raises(StoreError, match=r"plan\.data_sets is not an object"):
        analysis.load(store)
    store.write_sweep({"plan": plan, "runs": []})  # as older versions wrote it
    assert analysis.load(store).data_sets == {}
