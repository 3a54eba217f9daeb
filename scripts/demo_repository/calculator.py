"""Sharing whole amounts."""


def divide_evenly(total: int, parts: int) -> list[int]:
    """Split *total* into *parts* whole numbers that add up to it and differ by one at most."""
    if parts < 1:
        raise ValueError("parts must be at least 1")
    share = total // parts
    return [share] * parts
