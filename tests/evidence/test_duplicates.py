"""Nothing is written twice in the evidence: no eight lines of code stand in two places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

EVIDENCE = Path(__file__).parents[2] / "evidence"
LINES = 8


def twice(files: Iterable[Path]) -> list[str]:
    """Return the places at which as many lines begin that stand elsewhere, too.

    Blank lines, comments and imports do not count, and neither does indentation.
    """
    places = defaultdict(list)
    for path in files:
        text = path.read_text(encoding="utf-8").splitlines()
        lines = [(number, line.strip()) for number, line in enumerate(text, 1)]
        code = [x for x in lines if x[1] and not x[1].startswith(("#", "from ", "import ", '"""'))]
        for i in range(len(code) - LINES + 1):
            block = tuple(line for _, line in code[i : i + LINES])
            places[block].append(f"{path.name}, line {code[i][0]}")
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def test_no_eight_lines_stand_in_two_places():
    assert twice(sorted(EVIDENCE.rglob("*.py"))) == []


def test_negative_control_lines_that_were_copied_are_found(tmp_path: Path):
    block = "".join(f"x{i} = {i}\n" for i in range(LINES))
    for name, text in (("a", block), ("b", "y = 1\n\n" + block), ("c", block.replace("7", "8"))):
        (tmp_path / f"{name}.py").write_text(text)
    assert twice(sorted(tmp_path.glob("*.py"))) == ["a.py, line 1 and b.py, line 3"]
