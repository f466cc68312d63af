"""Fixtures that every folder may use, and which tests stay together where two processes run them (`make test`)."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["services.services", "services.object_store"]


@pytest.hookimpl(optionalhook=True)  # there is one only where xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Files stay whole, for their fixtures' sake, and all that share the real servers stay in one process, which stops
    them when it has done with them.
    """
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def shares_servers(file: str) -> bool:
        text = Path(config.rootpath, file).read_text(encoding="utf-8")
        return "pytest.mark.services" in text and "pytest.mark.own_servers" not in text

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "servers" if shares_servers(file) else file

    return Scheduling(config, log)
