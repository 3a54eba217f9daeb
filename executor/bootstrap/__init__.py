"""The composition roots, one per mode: the only places that pick implementations."""
