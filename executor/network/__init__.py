"""How this program and what it starts reach other machines: proxies, certificates, failures.

Everything follows the variables of the environment that other programs follow, too. Nothing here
knows the backend, git or Claude Code.
"""
