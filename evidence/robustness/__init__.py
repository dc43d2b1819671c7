"""How schedules bear noise: every family under every noise, at several rates."""
