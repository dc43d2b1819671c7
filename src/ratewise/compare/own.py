"""A task of the user's own by the name of its file: `own.py:task`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from ratewise.compare import tasks
from ratewise.compare.task import Task
from ratewise.errors import InvalidArgument, invalid, unknown, wrong_type


def load(name: str, preset: str = "small", data: str | None = None) -> Task:
    """Return a task by its name, or that of a file: `FILE.py:NAME`.

    NAME is a `Task`, or a function without arguments that returns one. The file is run, as an
    import would: name none that you would not run.

    Args:
        name: one of `ratewise.compare.tasks.names()`, or a file and a name in it.
        preset, data: of named tasks.

    Raises:
        UnknownName: no such task, or no such name in the file.
        InvalidArgument: there is no such file, or it raises an error.
        WrongType: what is named is no task.
        MissingData, CorruptData: a named task's data set is absent or damaged.
    """
    file, colon, attribute = name.rpartition(":")
    if not (colon and file.endswith(".py")):
        return tasks.load(name, preset, data)
    path = Path(file).resolve()
    if not path.is_file():
        raise invalid("task", "FILE.py:NAME with a file that exists", name, "check its name")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise invalid("task", "FILE.py:NAME", name, "pass a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # worker processes find its functions by this name
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise InvalidArgument(
            f"{file} raised an error while it was read ({what}): mend it"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        known = [key for key, value in vars(module).items() if isinstance(value, Task)]
        raise unknown(f"task in {file}", attribute, known)
    task = found if isinstance(found, Task) or not callable(found) else found()
    if not isinstance(task, Task):
        raise wrong_type(
            name,
            "a ratewise.compare.Task, or a function that returns one",
            task,
            "see examples/own_task.py",
        )
    return task
