"""What lies in a session's directory beside its checkout.

======================  ==========================================================================
``attachments/``        files that came with messages; added to by every message
``input/``              the input files of the last request that brought any
``output/``             made for the agent, for files that are meant for its user
``.skills/``            the skills of this run; gone when it has none
``.mcp-servers/``       which MCP servers this run has; gone when it has none
``.claude/``            the agent's own state, where it must outlive a container
``.wegent/``            an executor's home in a container, and files of hooks
======================  ==========================================================================
"""

from __future__ import annotations

from typing import Final

ATTACHMENTS: Final = "attachments"
INPUT: Final = "input"
OUTPUT: Final = "output"
SKILLS: Final = ".skills"
SERVERS: Final = ".mcp-servers"
CLAUDE_STATE: Final = ".claude"
HOME: Final = ".wegent"

TAKEN: Final = frozenset({ATTACHMENTS, INPUT, OUTPUT})
"""What no checkout may be called."""

OWN: Final = frozenset({SKILLS, SERVERS, CLAUDE_STATE, HOME})
"""The executor's: nothing in there counts as changed by a run."""
