"""The program as PyInstaller builds it: what differs from one that runs from source."""
