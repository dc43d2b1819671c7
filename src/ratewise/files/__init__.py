"""Files: those that anyone may have made are read as data, ours are written whole or not at all."""
