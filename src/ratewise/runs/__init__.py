"""Past trainings: Parquet files of one or many runs, queried with DuckDB; names and numbers."""

from ratewise.errors import extra_named

with extra_named("ratewise.runs", "curves"):
    from ratewise.runs.schema import SCHEMA_VERSION, UNITS, RunRecord, batch_id, make_run_id
    from ratewise.runs.store import Store

__all__ = ["SCHEMA_VERSION", "UNITS", "RunRecord", "Store", "batch_id", "make_run_id"]
