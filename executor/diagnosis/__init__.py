"""What is wrong with this machine, its settings and the way to its backend: looked at, not changed.

One file for each subject. A check starts no executor, disturbs none, and leaves nothing behind.
"""
