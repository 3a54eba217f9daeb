"""Claude Code as an agent: the ``claude`` CLI as a child process, driven by claude-agent-sdk.

Importing this package is cheap. The SDK (0.9 s, 60 MB) is imported by
:meth:`executor.agents.claude_code.agent.ClaudeCodeAgent.load` only.
"""
