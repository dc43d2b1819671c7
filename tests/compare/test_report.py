"""The report: right words for known results, pictures, one page that opens without a network."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
from tests.compare.records import runs_of, stored

from ratewise import plotting
from ratewise.compare import analysis, report
from ratewise.compare.report import panels, tables, words
from ratewise.compare.statistics import Interval
from ratewise.plotting import Bar, Forest
from ratewise.runs import Store

SCHEDULES = ("greedy", "greedy-cosine", "cosine", "linear")


def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
    """Greedy is 20% worse than cosine on digits, 10% better on diabetes; linear diverges once."""
    base = 0.5 + 0.002 * seed
    if schedule == "greedy":
        return base * (1.2 if task == "digits-mlp" else 0.9) * (1 + 0.001 * (seed % 2))
    if schedule == "linear" and seed == 1:
        return math.inf
    return base


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> report.Report:
    store = Store(tmp_path_factory.mktemp("report") / "out")
    return report.write(stored(store, loss, schedules=SCHEDULES))


def test_the_report_opens_with_which_schedule_to_use_then_the_table(written):
    parts = written.markdown.read_text().split("\n\n")
    assert parts[1].startswith("Use cosine, or greedy-cosine (1.000 [1.000, 1.000] times its test")
    assert parts[2].startswith("## Each method at its tuned rate")
    assert parts[3].startswith("| task")
    page = re.sub(r"<script.*?</script>", "", written.html.read_text(), flags=re.DOTALL)
    body = page[page.index("<h1>") :]
    assert body.index('<p class="lead">') < body.index("<table>") < body.index("<h2>")
    assert "Use cosine, or greedy-cosine" in " ".join(written.table.split())


def answered(loss, **rest) -> str:
    """Return the first sentence of a comparison's report."""
    schedules = rest.pop("schedules", ("greedy", "cosine", "linear"))
    runs = runs_of(loss, schedules=schedules, **rest)
    return report.content(runs).answer


def test_the_answer_names_the_best_and_by_how_much_the_others_are_surely_higher():
    tasks = [f"task-{'x' * i}" for i in range(6)]

    def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
        own = {"greedy": 1.2, "cosine": 1.0, "linear": 1.1}[schedule]
        return own * (1 + 0.01 * ((seed + len(task) + len(schedule)) % 3))

    said = answered(loss, tasks=tasks)
    assert said.startswith("Use cosine: over all 6 cells, each schedule at its tuned rate, every")
    assert said.index("linear (1.1") < said.index("greedy (1.2")


def test_the_answer_keeps_what_is_not_told_apart_from_the_best():
    tasks = [f"task-{'x' * i}" for i in range(6)]

    def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
        wobble = 0.05 * ((len(task) * 7 + len(schedule)) % 3 - 1)
        return 0.5 * (1.5 if schedule == "greedy" else 1.0 + wobble)

    said = answered(loss, tasks=tasks)
    best, other = ("cosine", "linear") if said.startswith("Use cosine") else ("linear", "cosine")
    assert said.startswith(f"Use {best}, or {other} (")
    assert "which these runs do not tell apart from it over all 6 cells" in said
    assert said.endswith(") ends higher.")
    assert "greedy (1.5" in said


def test_without_an_interval_or_a_difference_the_answer_claims_nothing():
    one = answered(lambda t, o, s, i: 0.5 + 0.1 * len(s), tasks=["task"], seeds=1)
    assert one.startswith("These runs do not tell the schedules apart")
    assert "(no interval)" in one
    assert "on this one task" in one
    assert "cannot be said" in answered(lambda t, o, s, i: 0.5, schedules=("cosine",))


def test_of_one_task_the_answer_follows_its_seeds():
    loss = {"greedy": 0.6, "cosine": 0.5, "linear": 0.7}
    said = answered(lambda t, o, s, i: loss[s] + 0.001 * i, tasks=["task"], seeds=5)
    assert said.startswith("Use cosine: on this one task")


def test_where_greedy_lost_is_said_in_words_after_the_first_table(written):
    text = written.markdown.read_text()
    first = text.split("\n\n")[4]
    assert "greedy lost to cosine in 1 of 2 cells, each at its tuned rate: digits-mlp" in first
    assert "1.200" in first
    assert "greedy-cosine lost" not in text
    assert "greedy lost to cosine in 1 of 2 cells" in " ".join(written.table.split())


def test_a_loss_over_all_cells_is_said_though_no_cell_shows_it():
    def slightly(task: str, optimizer: str, schedule: str, seed: int) -> float:
        wobble = 1.04 + 0.09 * ((seed + len(task)) % 3 - 1) if schedule == "greedy" else 1.0
        return 0.5 * wobble

    runs = runs_of(slightly, tasks=[f"task-{'x' * i}" for i in range(12)], seeds=3)
    pair = analysis.compare(runs, "greedy", "cosine")
    assert pair.verdicts["worse"] == 0
    said = words.losses([pair])
    if pair.overall.low > 0:
        assert "over all cells" in said[0]
    else:
        assert "undecided" in said[0]


def test_nothing_lost_and_nothing_decided_are_told_apart():
    equal = analysis.compare(runs_of(lambda t, o, s, i: 0.5 + 0.01 * i), "greedy", "cosine")
    assert words.losses([equal]) == [
        "greedy lost to no baseline in any cell; 0 of 2 comparisons are undecided."
    ]
    one = analysis.compare(runs_of(lambda t, o, s, i: 0.5, seeds=1), "greedy", "cosine")
    assert "Nothing is decided about greedy" in words.losses([one])[0]
    assert words.losses([])[0].startswith("There is nothing to compare")


def test_tables_hold_every_method_and_its_budget(written):
    text = written.markdown.read_text()
    for needed in (*SCHEDULES, "same rate", "runs to tune", "1/5", "insignificantly worse"):
        assert needed in text
    detail = next(line for line in text.splitlines() if "| linear " in line and "1/5" in line)
    assert " 6 |" in detail, "the budget in runs is missing"


def test_the_terminal_s_table_fits(written):
    assert max(map(len, written.table.splitlines())) <= 100
    assert "1 diverged" in written.table


def test_numbers_and_ratios_read_well():
    assert tables.ratio(Interval(math.nan, -math.inf, math.inf, 0)) == "-"
    table = tables.Table("c", ["a", "number"], [["x", "1"], ["yy", "22"]])
    assert table.markdown().splitlines() == [
        "| a  | number |",
        "| -- | -----: |",
        "| x  |      1 |",
        "| yy |     22 |",
    ]


def test_names_that_mean_something_in_markdown_or_html_say_just_that(tmp_path):
    task = "a|b<script>alert(1)</script>![x](http://y) `z`"
    store = stored(Store(tmp_path), lambda t, o, s, i: 1.2 if s == "greedy" else 0.5, tasks=[task])
    done = report.write(store)
    text = done.markdown.read_text()
    assert "<script" not in text
    assert "![x](" not in text
    said = r"a\|b&lt;script>alert(1)&lt;/script>!\[x]\(http://y) \`z\`"
    assert said in text.split("\n\n")[4], "the sentence on what was lost"
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.replace(r"\|", "").count("|") for line in tables if said in line}
    headers = {line.count("|") for line in tables if line.startswith("| task")}
    assert widths
    assert widths == headers
    assert "<script>alert" not in done.html.read_text()


def test_pictures_are_drawn(written):
    assert {path.name for path in written.pictures} == {
        "schedules.png",
        "histories.png",
        "rates.png",
        "forest.png",
    }
    for path in written.pictures:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 10_000


def test_panels_hold_what_was_run(written):
    runs = analysis.load(Store(written.html.parent))
    palette = panels.colours(runs)
    assert len(set(palette.values())) == len(SCHEDULES)
    drawn = panels.drawn_schedules(runs)
    assert [panel.title for panel in drawn] == ["digits-mlp, adamw", "diabetes-mlp, adamw"]
    assert {line.name for line in drawn[0].lines} == set(SCHEDULES)
    assert drawn[0].lines[0].y[0] == 0.01
    rates = panels.rates(runs)[0]
    assert rates.log_x
    assert list(rates.lines[0].x) == [0.001, 0.01, 0.1]


def test_a_forest_shows_infinite_intervals_at_its_edge(tmp_path):
    bars = [Bar("a", "#000000", 1.1, 0.0, math.inf)]
    plotting.save_forest(Forest("t", "x", bars), tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_the_page_is_one_file_without_a_network(written):
    page = written.html.read_text()
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=", body)
    assert "<link" not in body
    assert page.count("plotly.js v") == 1, "the plotting library is inside it once"


def test_it_is_written_again_from_the_store_alone(written, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(written.html.parent, copy)
    (copy / "index.html").unlink()
    assert report.write(Store(copy)).markdown.read_text() == written.markdown.read_text()


#: Whether no plot is wider than the place that it has.
FITS = """[...document.querySelectorAll(".js-plotly-plot")].every(
    plot => plot.querySelector(".main-svg").clientWidth <= plot.clientWidth + 1)"""


def browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
def test_a_browser_finds_plots_and_tables(written):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright absent")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        try:
            page = chromium.new_context(offline=True).new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("requestfailed", lambda request: problems.append(request.url))
            page.set_default_timeout(600_000)
            page.goto(Path(written.html).as_uri())
            page.wait_for_selector(".plotly .main-svg")
            assert problems == []
            assert page.locator(".js-plotly-plot").count() == 3 * 2 + 1, "a panel a plot"
            assert page.locator("table").count() == 4
            assert page.locator("td.worse").count() >= 1
            traces = page.evaluate("document.querySelector('.js-plotly-plot').data.length")
            assert traces >= 2 * len(SCHEDULES)
            assert page.locator("path.js-line").count() > 10, "no line was drawn"
            page.wait_for_function(FITS)
        finally:
            chromium.close()
