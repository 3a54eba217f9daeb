"""A run in a container: the executor inside carries it out, and is followed from here."""
