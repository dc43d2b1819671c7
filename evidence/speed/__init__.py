"""What things cost in time and memory: each page has its measurements beside it, as JSON."""
