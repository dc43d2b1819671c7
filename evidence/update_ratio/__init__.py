"""Which ratio UpdateRatioLR should take by default, for which length of a run."""
