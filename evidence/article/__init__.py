"""The article's claims on GreedyLR, tested."""
