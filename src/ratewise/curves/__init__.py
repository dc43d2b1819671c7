"""Past experiments: readers of logs, loss-curve laws, forecasts."""

from ratewise.errors import extra_named

with extra_named("ratewise.curves", "curves"):
    from ratewise.curves.advisor import Advisor, Trial
    from ratewise.curves.convex import bound, transfer_lr
    from ratewise.curves.curve import Curve, Facts, Series
    from ratewise.curves.forecast import Forecast, LossLaw, OutsideSeen, fit
    from ratewise.curves.prior import Key
    from ratewise.curves.rates import scheduled, with_schedule, with_warmup
    from ratewise.curves.read import Reading, read

__all__ = [
    "Advisor",
    "Curve",
    "Facts",
    "Forecast",
    "Key",
    "LossLaw",
    "OutsideSeen",
    "Reading",
    "Series",
    "Trial",
    "bound",
    "fit",
    "read",
    "scheduled",
    "transfer_lr",
    "with_schedule",
    "with_warmup",
]
