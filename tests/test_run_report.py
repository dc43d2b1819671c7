"""`scheduler.report`: one file with a run's losses, rates and reasons, and nothing to fetch."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.compare.test_report import browser
from tests.contracts.rules import make_optimizer
from torch import nn

pytest.importorskip("plotly", reason="ratewise[compare] is not installed")

import ratewise
from ratewise.errors import CannotWrite, InvalidArgument, WrongType
from ratewise.plotting import run_report

LOSSES = [4.0, 3.0, 2.0, 1.0, 1.5, float("nan"), 1.6, 1.7, 1.8, 0.2, 0.1]


def trained(losses: Any = LOSSES) -> ratewise.GreedyLR:
    scheduler = ratewise.GreedyLR(make_optimizer(0.01), factor=0.5, patience=1, window=1)
    for loss in losses:
        scheduler.step(loss)
    return scheduler


def steered() -> ratewise.UpdateRatioLR:
    layer = nn.Linear(3, 2)
    scheduler = ratewise.UpdateRatioLR(torch.optim.SGD(layer.parameters(), lr=0.1), total_steps=9)
    for _ in range(5):
        scheduler.optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        scheduler.optimizer.step()
        scheduler.step()
    return scheduler


def without_scripts(path: Path) -> str:
    return re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL)


def test_the_page_is_one_file_with_every_reason(tmp_path: Path):
    scheduler = trained()
    path = scheduler.report(tmp_path / "new" / "run.html")
    whole, text = path.read_text(), without_scripts(path)
    assert whole.count("plotly.js v") == 1
    assert not re.findall(r"(?:src|href)\s*=", text)
    assert scheduler.events
    for event in scheduler.events:
        assert html.escape(event.words()) in text, "what it explains"
        assert f'"{event.reason} (' in whole, "a mark of its own"
    assert "<h2>Loss</h2>" in text
    assert f"{len(LOSSES)} steps; at the end a loss of {LOSSES[-1]}, a rate of " in text


def test_a_steered_run_shows_what_its_steps_move(tmp_path: Path):
    text = without_scripts(steered().report(tmp_path / "run.html"))
    assert "||dp|| / ||p||" in text
    assert "||dp|| / ||p|| is to be" in text, "what it explains"
    assert "at the end a typical ||dp|| / ||p|| of " in text
    assert "nothing but a schedule has changed the rate" in text


def test_what_cannot_be_drawn_is_refused_by_name(tmp_path: Path):
    with pytest.raises(InvalidArgument, match=r"ends in \.html"):
        trained().report(tmp_path / "run.png")
    with pytest.raises(InvalidArgument, match="one that has decided"):
        trained([]).report(tmp_path / "run.html")
    with pytest.raises(WrongType, match="a ratewise scheduler"):
        run_report.write(object(), tmp_path / "run.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        trained().report(tmp_path / "file" / "run.html")
    assert not (tmp_path / "run.html").exists()


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_reason_of_a_mark(tmp_path: Path):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright absent")
    path = trained().report(tmp_path / "run.html")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        try:
            page = chromium.new_context(
                offline=True, viewport={"width": 390, "height": 800}
            ).new_page()
            page.set_default_timeout(600_000)
            page.goto(path.as_uri())
            page.wait_for_selector(".plotly .main-svg")
            assert page.locator(".js-plotly-plot").count() == 2
            words = page.evaluate(
                "[...document.querySelectorAll('.js-plotly-plot')].at(-1).data"
                ".flatMap(trace => trace.text ?? [])"
            )
            assert words[0].startswith("step 3: increase 0.01 -")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        finally:
            chromium.close()
