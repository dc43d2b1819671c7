"""Names of tasks and schedules stand in pictures as they are, whatever signs they hold."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from ratewise import plotting
from ratewise.plotting import Bar, Forest, Line, Panel, save_forest, save_panels

NAME = r"$\frac{a$"  # matplotlib takes it for a formula, and cannot read it


def panels(path: Path) -> None:
    save_panels([Panel(NAME, "step", "loss", [Line(NAME, "#000000", [1, 2], [1.0, 2.0])])], path)


def forest(path: Path) -> None:
    save_forest(Forest(NAME, "ratio", [Bar(NAME, "#000000", 1.0, 0.9, 1.1)]), path)


@pytest.mark.parametrize("draw", [panels, forest])
def test_a_name_with_dollar_signs_is_drawn_as_it_is(draw, tmp_path: Path):
    draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def edges(path: Path) -> float:
    """Return the darkest pixel in the outermost columns of a picture; 1 is white."""
    pixels = imread(path)[..., :3]
    return float(min(pixels[:, :2].min(), pixels[:, -2:].min()))


def long_title(path: Path) -> None:
    title = "ln(loss under the anchor / loss under the policy) while the policy learns"
    save_panels([Panel(title, "round", "mean", [Line("a", "#000000", [1, 2], [1.0, 2.0])])], path)


def test_a_long_title_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long_title(tmp_path / "whole.png")
    assert edges(tmp_path / "whole.png") == 1.0
    monkeypatch.setattr(plotting, "_TITLE", 1000)
    long_title(tmp_path / "cut.png")
    assert edges(tmp_path / "cut.png") < 0.5, "the control"


def test_without_care_matplotlib_would_refuse_it(tmp_path: Path):
    figure = Figure()
    figure.subplots().set(title=NAME, xlim=(0, math.e))
    with pytest.raises(ValueError, match=r"\\frac"):
        figure.savefig(tmp_path / "picture.png")
