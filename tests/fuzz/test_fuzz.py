"""The suite's slice of the fuzzing, and what shows that the runner would see a fault."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.fuzz.__main__ import by_time, main
from tests.fuzz.counts import Counts, write_page
from tests.fuzz.harness import AREAS, PLANTED, Trial, Tried, present, regressions
from tests.fuzz.workers import Limits, prepare, tried

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
#: Cases of each area: a few seconds an area, under 45 in all.
SLICE = {
    "schedulers": 25,
    "states": 60,
    "policies": 80,
    "stores": 6,
    "matrices": 30,
    "data_files": 40,
    "logs": 30,
}
FAULTY, SOUND = PLANTED
FOUND = {
    "broken promise": "fault",
    "wrong error": "error KeyError",
    "crash": "death by SIGSEGV",
    "hang": "hang",
    "exit of the process": "exit 3",
    "exit of the interpreter": "error SystemExit",
    "memory": "error MemoryError",
}


@functools.cache
def slice_of(area: str) -> dict[int | str, Tried]:
    """Return what became of an area's known faults and of its first cases."""
    prepare([*present(), *PLANTED])
    limits = Limits(seconds=3.0 if area == FAULTY else 60.0)
    trials = [Trial(area, case) for case in [*regressions(area), *range(SLICE.get(area, 20))]]
    return {result.trial.case: result for result in tried(trials, limits=limits)}


@pytest.mark.parametrize(
    ("area", "name"), [(area, name) for area in present() for name in regressions(area)]
)
def test_a_known_fault_is_not_back(area: str, name: str):
    assert not slice_of(area)[name].finding, slice_of(area)[name].finding


@pytest.mark.parametrize("area", present())
def test_hostile_input_breaks_no_promise(area: str):
    findings = [result for result in slice_of(area).values() if result.finding]
    cases = [result for result in findings if isinstance(result.trial.case, int)]
    assert not cases, "\n\n".join(f"{it.trial.command}\n{it.finding}" for it in cases[:3])


@pytest.mark.parametrize("way", regressions(FAULTY))
def test_every_way_to_break_is_found(way: str):
    result = slice_of(FAULTY)[way]
    assert result.outcome == FOUND[way]
    if way in ("hang", "crash"):  # where it was when it ended
        assert f"in {way}\n" in result.finding


def test_a_fault_among_cases_is_found_where_others_hold():
    outcomes = {result.outcome for case, result in slice_of(FAULTY).items() if case not in FOUND}
    assert outcomes == {"fault", "error KeyError", "held", "refused InvalidState"}


def test_where_nothing_is_wrong_nothing_is_found():
    assert len(slice_of(SOUND)) == 21
    assert not [result for result in slice_of(SOUND).values() if result.finding]


@pytest.mark.parametrize(("jobs", "limits"), [(2, Limits()), (1, Limits(trials=7))])
def test_a_case_is_the_same_in_whatever_process_and_order(jobs: int, limits: Limits):
    trials = [Trial(SOUND, case) for case in reversed(range(20))]
    again = {it.trial.case: it.outcome for it in tried(trials, jobs=jobs, limits=limits)}
    assert again == {case: slice_of(SOUND)[case].outcome for case in range(20)}
    assert len(set(again.values())) == 20


def test_the_same_seed_gives_the_same_counts_and_another_seed_others(tmp_path, capsys):
    counts = []
    for number, seed in enumerate((5, 5, 6)):
        file = tmp_path / f"{number}.json"
        line = f"--areas {SOUND} --cases 8 --seed {seed} --jobs 2 --counts {file}"
        assert main(line.split()) == 0
        counts.append(json.loads(file.read_text()))
    assert counts[0] == counts[1] != counts[2]
    assert counts[0]["areas"][SOUND]["cases"] == 8
    assert "Seed 5: 8 cases and 1 regressions in 1 areas; 0 findings" in capsys.readouterr().out


def test_for_a_time_the_area_that_had_least_of_it_comes_next():
    spent: Counter[str] = Counter()
    trials = by_time([FAULTY, SOUND], seed=3, seconds=3600, spent=spent)
    known = [next(trials).case for _ in range(len(FOUND) + 1)]
    assert known == [*FOUND, "nothing wrong"]
    assert [next(trials).area for _ in range(4)] == [FAULTY, SOUND] * 2
    spent[FAULTY] = 10
    assert {next(trials).area for _ in range(4)} == {SOUND}
    spent[SOUND] = 11
    assert next(trials) == Trial(FAULTY, 2, 3)


def test_a_finding_says_how_to_try_it_alone(capsys):
    result = next(it for case, it in slice_of(FAULTY).items() if it.finding and case not in FOUND)
    assert main(result.trial.command.split()[3:]) == 1
    assert result.finding.splitlines()[-1] in capsys.readouterr().out
    held = next(case for case, it in slice_of(FAULTY).items() if it.outcome == "held")
    assert main(f"--area {FAULTY} --case {held}".split()) == 0


def test_ctrl_c_prints_the_counts_so_far(tmp_path):
    line = f"-m tests.fuzz --areas {FAULTY} --seconds 3600 --findings {tmp_path}"
    with subprocess.Popen(
        [sys.executable, *line.split()], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{FAULTY}: fault\n"  # under way, then
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert re.search(r"\| known faults, tried again *\| +\d+ \|", rest)
    assert rest.endswith(" Stopped early.\n")
    assert list(tmp_path.glob("*-broken-promise.txt"))


def test_the_page_takes_the_counts_and_keeps_the_rest(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- counts -->\nold\n<!-- end of counts -->\nafter\n")
    counts = Counts(seed=3)
    counts.add(Tried(Trial("states", 0, 3), "held"))
    counts.add(Tried(Trial("states", "a known fault"), "held"))
    write_page(page, "the command", counts)
    text = page.read_text()
    assert text.startswith("before\n<!-- counts -->\nMade by `the command`.\n\nSeed 3: 1 cases")
    assert re.search(r"^\| states \| held +\| +1 \|$", text, re.MULTILINE)
    assert text.endswith("\n<!-- end of counts -->\nafter\n")
    assert "old" not in text
    write_page(page, "the command", counts)
    assert page.read_text() == text


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must have one line <!-- counts -->"):
        write_page(page, "the command", Counts(seed=0))


def test_the_reliability_page_takes_counts_and_names_what_exists():
    text = PAGE.read_text(encoding="utf-8")
    assert text.index("<!-- counts -->") < text.index("<!-- end of counts -->")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
    described = re.findall(r"^\| (\w+) \| an? ", text, re.MULTILINE)
    assert described == list(AREAS)
