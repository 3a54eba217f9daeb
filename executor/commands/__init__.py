"""The commands that an operator types, one file each."""
