"""The settings of one executor: their names, types and values, and what is said of wrong ones."""
