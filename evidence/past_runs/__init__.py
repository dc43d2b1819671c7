"""What past trainings say of the next: laws, forecasts, suggestions, on published curves."""
