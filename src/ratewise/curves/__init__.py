"""Past experiments: readers of logs, loss-curve laws, forecasts."""

from ratewise.curves.curve import Curve, Facts, Series
from ratewise.curves.rates import scheduled, with_schedule
from ratewise.curves.read import Reading, read

__all__ = ["Curve", "Facts", "Reading", "Series", "read", "scheduled", "with_schedule"]
