"""Where work runs: in this process, in several of this machine, or on a Ray cluster."""

from ratewise.pool.backends import here, workers
from ratewise.pool.where import BACKENDS, HERE, Where
from ratewise.pool.work import Done, Work, Workers, drain

__all__ = ["BACKENDS", "HERE", "Done", "Where", "Work", "Workers", "drain", "here", "workers"]
