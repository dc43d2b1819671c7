"""The rules inside other training libraries, each in a module of its own."""
