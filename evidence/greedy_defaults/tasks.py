"""This study's cells are those that several studies share."""

from evidence.cells import APART, BEFORE, BEFORE_LR, ROWS, Cell, task

__all__ = ["APART", "BEFORE", "BEFORE_LR", "ROWS", "Cell", "task"]
