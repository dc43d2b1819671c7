"""Readers of the data sets, in the formats in which people have them on disk."""
