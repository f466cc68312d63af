"""Adapters of the runtime's port, one module a technology."""
