"""agno as an agent: one agent or a team of them, in this process.

Importing this package is cheap. agno and the SDKs of the model APIs (1.5 s, and only there with the
extra ``agno``) are imported by :meth:`executor.agents.agno.agent.AgnoAgent.load` only.
"""
