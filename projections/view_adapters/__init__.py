"""Adapters of the views' port and of their publisher's, one module a technology."""
