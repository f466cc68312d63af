"""Adapters of the graph's port, one module per technology."""
