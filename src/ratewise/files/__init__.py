"""Files: those from strangers are read as data; our own are written completely or not at all."""
