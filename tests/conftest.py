"""Fixtures that every folder may use."""

pytest_plugins = ["services.services", "services.object_store"]
