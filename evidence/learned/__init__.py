"""What needs no rate, at every length: judged beside schedules and optimizers that people tune."""
