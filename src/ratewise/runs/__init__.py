"""Past trainings: one Parquet file a run, queried with DuckDB; names and numbers, no objects."""

from ratewise.runs.schema import SCHEMA_VERSION, UNITS, RunRecord, make_run_id
from ratewise.runs.store import Store

__all__ = ["SCHEMA_VERSION", "UNITS", "RunRecord", "Store", "make_run_id"]
