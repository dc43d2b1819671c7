"""Three machines with a network and files of their own, as namespaces of Linux: it takes root.

``python -m tests.pool.machines`` begins Ray on each as a person would, has the cluster make the
runs of a comparison, from its head, through `ray://` from another machine, and while a machine is
switched off; all of them have to be those that are made here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.harness import Fault
from tests.fuzz.kills import kept

BRIDGE, NETWORK = "ratewise", "10.77.0"
COMPARE = ["compare", "--tasks", "digits-mlp", "--schedules", "greedy,cosine", "--rates", "3"]
COMPARE += ["--seeds", "2", "--tuning-seeds", "1", "--steps", "60"]
OUT = "/tmp/out"
MOUNTS = "mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm"


def ip(line: str) -> None:
    """Set something in the network."""
    subprocess.run(["ip", *line.split()], check=True, capture_output=True)


class Machine:
    """A network namespace, with files and processes of its own.

    Args:
        number: from 1, the last part of its address.
    """

    def __init__(self, number: int) -> None:
        self.host, self._name = f"{NETWORK}.{number}", f"{BRIDGE}{number}"
        ip(f"netns add {self._name}")
        ip(f"link add {self._name} type veth peer name eth0 netns {self._name}")
        ip(f"link set {self._name} master {BRIDGE} up")
        ip(f"-n {self._name} addr add {self.host}/24 dev eth0")
        ip(f"-n {self._name} link set eth0 up")
        ip(f"-n {self._name} link set lo up")
        line = f"ip netns exec {self._name} unshare -m -p -f --mount-proc --propagation private"
        self._held = subprocess.Popen(
            [*line.split(), "sh", "-ec", f"{MOUNTS}; echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # on its end unshare complains
        )
        assert self._held.stdout is not None
        if not self._held.stdout.readline():
            raise Fault(f"no namespace for {self.host}: `{line}` as root has to work")
        children = Path(f"/proc/{self._held.pid}/task/{self._held.pid}/children")
        self._first = children.read_text().strip()

    def python(self, *line: str) -> subprocess.Popen[str]:
        """Start Python on it, in its /tmp."""
        inside = f"nsenter -t {self._first} -m -n -p --wd=/tmp -- env HOME=/tmp {sys.executable}"
        return subprocess.Popen(
            [*inside.split(), *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ray(self, *options: str) -> None:
        """Begin Ray on it; on a busy machine that may need another try."""
        line = ["start", "--node-ip-address", self.host, "--num-cpus", "1", "--disable-usage-stats"]
        for _ in range(5):
            started = self.python("-m", "ray.scripts.scripts", *line, *options)
            said = started.communicate()[0]
            if started.returncode == 0:
                return
            self.python("-m", "ray.scripts.scripts", "stop", "--force").communicate()
        raise Fault(said)

    def folder(self, name: str) -> Path:
        """Return a folder of its own as it is seen from outside."""
        return Path(f"/proc/{self._first}/root{name}")

    def off(self) -> None:
        """Switch it off: nothing that runs on it hears of it."""
        if self._held.poll() is None:
            os.kill(int(self._first), signal.SIGKILL)
            self._held.wait()
            ip(f"netns del {self._name}")


@contextlib.contextmanager
def network() -> Iterator[list[Machine]]:
    """Connect machines, which the block adds; end all of it."""
    ip(f"link add {BRIDGE} type bridge")
    machines: list[Machine] = []
    try:
        ip(f"link set {BRIDGE} up")
        yield machines
    finally:
        for machine in machines:
            machine.off()
        ip(f"link del {BRIDGE}")


def made(machine: Machine, address: str, switched_off: Machine | None = None) -> Path:
    """Compare from a machine; return a copy of what it wrote."""
    out = machine.folder(OUT)
    shutil.rmtree(out, ignore_errors=True)
    line = ["-m", "ratewise", *COMPARE, "--backend", "ray", "--address", address, "--out", OUT]
    process = machine.python(*line)
    while switched_off and not list(out.glob("runs/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    if switched_off:
        switched_off.off()
    said = process.communicate()[0]
    if process.returncode:
        raise Fault(said)
    return Path(shutil.copytree(out, Path(tempfile.mkdtemp()) / "out"))


def main() -> None:
    """Print what came of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all of it, too
    here = Path(tempfile.mkdtemp()) / "out"
    line = [sys.executable, "-m", "ratewise", *COMPARE, "--out", str(here)]
    subprocess.run(line, check=True, capture_output=True)
    expected = kept(here)
    with network() as machines:
        machines += [Machine(number) for number in (1, 2, 3)]
        head, other, third = machines
        head.ray("--head", "--port", "6379", "--ray-client-server-port", "10001")
        for machine in (other, third):
            machine.ray("--address", f"{head.host}:6379")
        ways = {
            "--address auto, on the head": made(head, "auto"),
            "--address ray://, from another machine": made(other, f"ray://{head.host}:10001"),
            "with a machine switched off meanwhile": made(head, "auto", third),
        }
        for way, folder in ways.items():
            if kept(folder) != expected:
                raise Fault(f"{way}: other runs than here")
            print(f"{way}: {len(expected)} runs, equal to those made here")


if __name__ == "__main__":
    main()
