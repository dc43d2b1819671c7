"""What became of the cases: counts for people, for programs and for the page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.harness import Tried

_BEGIN, _END = "<!-- counts -->", "<!-- end of counts -->"


@dataclass
class Counts:
    """Outcomes by area, and what was found, in the order in which it was found."""

    seed: int
    cases: dict[str, Counter[str]] = field(default_factory=dict)
    regressions: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], list[Tried]] = field(default_factory=dict)

    def add(self, tried: Tried) -> bool:
        """Count one trial; return whether it found something that was not found before."""
        area = tried.trial.area
        outcomes = self.cases.setdefault(area, Counter())
        if isinstance(tried.trial.case, str):
            self.regressions[area] += 1
        else:
            outcomes[tried.outcome] += 1
        if not tried.finding:
            return False
        alike = self.findings.setdefault((area, tried.where), [])
        alike.append(tried)
        return len(alike) == 1

    def by_name(self) -> dict[str, Any]:
        """Return the counts as numbers by name; with a number of cases, the same for each run."""
        return {
            "seed": self.seed,
            "areas": {
                area: {
                    "regressions": self.regressions[area],
                    "cases": outcomes.total(),
                    "outcomes": dict(sorted(outcomes.items())),
                    "findings": {
                        where: sorted(tried.trial.command for tried in alike)
                        for (of, where), alike in sorted(self.findings.items())
                        if of == area
                    },
                }
                for area, outcomes in sorted(self.cases.items())
            },
        }

    def summary(self) -> str:
        """Return one sentence.

        >>> Counts(seed=3).summary()
        'Seed 3: 0 cases and 0 regressions in 0 areas; 0 findings in 0 places.'
        """
        cases = sum(outcomes.total() for outcomes in self.cases.values())
        found = sum(len(alike) for alike in self.findings.values())
        return (
            f"Seed {self.seed}: {cases:,} cases and {self.regressions.total():,} regressions in "
            f"{len(self.cases)} areas; {found:,} findings in {len(self.findings)} places."
        )

    def table(self) -> str:
        """Return a row for every outcome of every area, in Markdown."""
        rows = [("area", "outcome", "cases")]
        for area, outcomes in sorted(self.cases.items()):
            rows += [
                (area, outcome.replace("|", "/"), f"{count:,}")
                for outcome, count in sorted(outcomes.items(), key=lambda it: (-it[1], it[0]))
            ]
            rows.append((area, "known faults, tried again", f"{self.regressions[area]:,}"))
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"| {area:{wide[0]}} | {outcome:{wide[1]}} | {count:>{wide[2]}} |"
            for area, outcome, count in rows
        ]
        lines.insert(1, f"| {'-' * wide[0]} | {'-' * wide[1]} | {'-' * (wide[2] - 1)}: |")
        return "\n".join(lines)


def write_page(page: Path, made_by: str, counts: Counts) -> None:
    """Replace what stands between the page's two marks by the counts, and leave the rest.

    Raises:
        ValueError: the page lacks a mark.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"{page} must have one line {_BEGIN} and one line {_END}")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    body = f"Made by `{made_by}`.\n\n{counts.summary()}\n\n{counts.table()}"
    page.write_text(f"{before}{_BEGIN}\n{body}\n{_END}{after}", encoding="utf-8")
