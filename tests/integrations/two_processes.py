"""Two processes that train together on this machine, each with a script of its own to run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def together(script: str, folder: Path, **environment: str) -> list[Any]:
    """Run `script` as ranks 0 and 1 of two; return what each wrote to FOLDER/RANK as JSON.

    The script finds the folder in ``sys.argv[1]`` and its rank in the environment's RANK.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", script, str(folder)]
    ranks = [
        subprocess.Popen(command, env=shared | environment | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        assert [rank.wait(timeout=900) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / str(rank)).read_text()) for rank in range(2)]
