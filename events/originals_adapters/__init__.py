"""Adapters of the port for media originals, one module a technology."""
