"""Where work runs, as a user says it; nothing is started or imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ratewise.errors import invalid, unknown

#: "here" is this process; "processes" are of this machine.
BACKENDS = ("here", "processes", "ray")
#: Of each worker on Ray, where nothing else is asked for.
ONE_CPU: Mapping[str, float] = MappingProxyType({"cpus": 1.0})


@dataclass(frozen=True)
class Where:
    """A backend and its size.

    Args:
        backend: one of `BACKENDS`; None works here with one job, and in processes with more.
        jobs: workers. None is one; on Ray as many as the cluster holds.
        address: of a cluster that Ray runs on: "auto", "HOST:6379" or "ray://HOST:10001". None
            joins the one that the environment variable RAY_ADDRESS names, or starts a local Ray.
        resources: what each worker on Ray needs: "cpus" (and it uses as many threads), "gpus"
            (0.25 is a quarter of one), "memory" in bytes, and any that the cluster's nodes name.
        dashboard: whether to print Ray's address and that of its dashboard.

    Raises:
        UnknownName: there is no such backend.
        InvalidArgument: a number outside its range, or something for Ray without Ray.

    >>> Where(jobs=4).name, Where().name
    ('processes', 'here')
    """

    backend: str | None = None
    jobs: int | None = None
    address: str | None = None
    resources: Mapping[str, float] = field(default_factory=lambda: ONE_CPU)
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in BACKENDS:
            raise unknown("backend", self.backend, BACKENDS)
        jobs = self.jobs
        if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
            raise invalid("jobs", "an integer >= 1", jobs, "pass 1 or more")
        if self.backend == "here" and jobs not in (None, 1):
            raise invalid("jobs", "1 with backend 'here'", jobs, "pass backend='processes'")
        for name in ("address", "dashboard"):
            if getattr(self, name) and self.backend != "ray":
                raise invalid(name, "given with backend 'ray'", getattr(self, name), _RAY)
        if self.resources != ONE_CPU and self.backend != "ray":
            raise invalid("resources", "given with backend 'ray'", dict(self.resources), _RAY)
        for name, amount in self.resources.items():
            _check_amount(name, amount)

    @property
    def name(self) -> str:
        """The backend that is meant."""
        return self.backend or ("processes" if (self.jobs or 1) > 1 else "here")

    @property
    def elsewhere(self) -> bool:
        """Whether workers may lie on other machines, with other files."""
        return self.name == "ray"

    @classmethod
    def of(
        cls,
        backend: str | Where | None = None,
        jobs: int | None = None,
        address: str | None = None,
    ) -> Where:
        """Return where work runs, from what a function was called with.

        Raises:
            InvalidArgument: a `Where`, and what it has itself besides.
        """
        if not isinstance(backend, Where):
            return cls(backend, jobs, address)
        for name, value in (("jobs", jobs), ("address", address)):
            if value is not None:
                raise invalid(name, "None beside a Where", value, f"pass Where(..., {name}=...)")
        return backend


_RAY = "pass backend='ray' (--backend ray) too"


def resources(text: str | None) -> Mapping[str, float]:
    """Return what stands in "cpus=2,gpus=0.25"; a command line has it so.

    Raises:
        InvalidArgument: it is not of that form.

    >>> resources("gpus=0.25")
    {'cpus': 1.0, 'gpus': 0.25}
    """
    if text is None:
        return ONE_CPU
    found = dict(ONE_CPU)
    for part in text.split(","):
        name, sign, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError:
            sign = ""
        if not (sign and name.strip()):
            fix = "type e.g. cpus=2,gpus=0.25,memory=2e9"
            raise invalid("--resources", "names with a number each", text, fix)
    return found


def _check_amount(name: str, amount: float) -> None:
    fix = "pass e.g. cpus=2, gpus=0.25 or memory=2e9"
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not number or not math.isfinite(amount) or amount < 0:
        raise invalid(f"resources[{name!r}]", "a finite number >= 0", amount, fix)
    if name == "gpus" and amount > 1 and amount != int(amount):
        raise invalid("resources['gpus']", "a fraction of one or whole GPUs", amount, fix)


#: One item after another, in this process.
HERE = Where()
