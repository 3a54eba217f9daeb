"""Stands in for the package of this name in the binary, without its clients and servers.

The SDK of Claude Code imports types and message streams out of :mod:`mcp`; the package itself would
import all of its clients, servers and their libraries. See ``scripts/binary/ingredients.py``.
"""
