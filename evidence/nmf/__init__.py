"""Learned schedules of a factorisation's rate against tuned ones, on problems never seen."""
