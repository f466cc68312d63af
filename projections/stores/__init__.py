"""Adapters of the shard store's port, one module a technology."""
