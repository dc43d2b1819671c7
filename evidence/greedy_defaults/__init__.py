"""Which settings GreedyLR should have by default, chosen in three rounds."""
