"""Reading files that anyone may have made: at most so much, nothing run, or a named error."""
