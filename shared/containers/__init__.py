"""Containers that run an executor: the engine, what one is made with, and the pool of them."""
