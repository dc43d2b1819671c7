"""Learned schedules on trainings that they were not learned on, beside what people use."""
