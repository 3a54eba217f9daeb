"""The door of a running executor for the user of its machine."""
