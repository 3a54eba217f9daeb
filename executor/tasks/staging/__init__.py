"""Placing what a request brings besides its prompt into its session's directory."""
