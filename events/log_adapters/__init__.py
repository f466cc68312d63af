"""Adapters of the event log's port, one module a technology."""
