"""Run the tests marked `numerics` again under kernels that other processors would choose.

    python -m tests.kernels [PYTEST ARGUMENTS]

torch, its MKL and oneDNN, NumPy, the OpenBLAS of NumPy and SciPy, and XLA each choose a kernel by
what the processor can do, and each kernel rounds in its own way. `make test` has run the suite
under the machine's own; each set below is what an older processor would choose. A set that this
processor cannot use, or that is its own, is left out, with a line that says so. That torch,
OpenBLAS and NumPy follow is checked before anything runs; the others do not say what they use.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Name, as torch calls the capability -> what makes each library choose its kernels. Away from
#: x86-64, torch and NumPy alone have older kernels that can be asked for.
KERNELS: dict[str, dict[str, str]] = (
    {
        "DEFAULT": {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_CBWR": "COMPATIBLE",
            "DNNL_MAX_CPU_ISA": "SSE41",
            "OPENBLAS_CORETYPE": "Nehalem",
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX",
        },
        "AVX2": {
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_CBWR": "AVX2",
            "DNNL_MAX_CPU_ISA": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        },
    }
    if platform.machine().lower() in ("x86_64", "amd64")
    else {"DEFAULT": {"ATEN_CPU_CAPABILITY": "default"}}
)

#: Only files that hold it are collected.
MARK = "pytest.mark.numerics"

#: Prints which kernels are in force in a fresh process.
PROBE = """
import json
import numpy, scipy.linalg, threadpoolctl, torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
blas = [lib for lib in threadpoolctl.threadpool_info() if lib["internal_api"] == "openblas"]
print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "openblas": sorted({lib["architecture"] for lib in blas}),
    "numpy": [name for name in __cpu_dispatch__ if __cpu_features__[name]],
}))
"""


def in_force(settings: dict[str, str]) -> dict[str, Any]:
    """Return the kernels that a process with these settings uses."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**os.environ, **settings}, stdout=subprocess.PIPE
    )
    done.check_returncode()
    return json.loads(done.stdout)


def settings_of(name: str, dispatched: list[str]) -> dict[str, str]:
    """Return a set's environment; `dispatched`: what NumPy has above its own baseline."""
    above = [x for x in dispatched if name == "DEFAULT" or "512" in x or x == "X86_V4"]
    settings = {**KERNELS[name], "NPY_DISABLE_CPU_FEATURES": ",".join(above)}
    # Workers fill the cores already: threads that wait for each other by spinning cost four times.
    settings["OMP_NUM_THREADS"] = "1"
    if "XLA_FLAGS" in settings:
        settings["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {settings['XLA_FLAGS']}".strip()
    return settings


def followed(name: str, settings: dict[str, str], found: dict[str, Any]) -> bool:
    """Say whether the libraries that tell what they use do as the settings say."""
    core = settings.get("OPENBLAS_CORETYPE")
    disabled = {*settings["NPY_DISABLE_CPU_FEATURES"].split(",")}
    return (
        found["torch"] == name
        and not disabled & {*found["numpy"]}
        and (core is None or found["openblas"] in ([], [core]))
    )


def main(arguments: list[str]) -> int:
    """Run pytest under every set that applies; return 1 if one fails or is not followed."""
    own = in_force({})
    print(f"kernels of this processor: {own}", flush=True)
    names = [*KERNELS]
    lower = names[: names.index(own["torch"])] if own["torch"] in names else names
    for name in ("DEFAULT", "AVX2"):
        if name not in lower:
            reason = "the machine's own" if name == own["torch"] else "not for this processor"
            print(f"{name}: {reason}, left out", flush=True)
    files = [str(p) for p in sorted(Path("tests").rglob("test_*.py")) if MARK in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "numerics", *arguments, *files]
    failed = []
    for name in lower:
        settings = settings_of(name, own["numpy"])
        print(f"{name}: {settings}", flush=True)
        found = in_force(settings)
        if not followed(name, settings, found):
            failed.append(f"{name} (in force: {found})")
        elif subprocess.run(command, env={**os.environ, **settings}).returncode:
            failed.append(name)
    if failed:
        print(f"failed under: {', '.join(failed)}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
