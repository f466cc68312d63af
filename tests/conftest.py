"""Fixtures that every folder may use, and which tests stay together where two processes run them (`make test`)."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ON_SERVER = re.compile(r"\[.*(cassandra|kafka|neo4j|redis)")
"""Of tests that stores share, those with a real one."""

pytest_plugins = ["services.services", "services.object_store"]


@pytest.hookimpl(optionalhook=True)  # there is one only where xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Files stay whole, for their fixtures' sake, and all that share the real servers stay in one process, which stops
    them when it has done with them.
    """
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def text_of(file: str) -> str:
        return Path(config.rootpath, file).read_text(encoding="utf-8")

    def shares_servers(file: str, test: str) -> bool:
        text = text_of(file)
        if "pytest.mark.services" not in text or "pytest.mark.own_servers" in text:
            return False
        whole = "pytestmark" in text or "@pytest.mark.services" in text
        return whole or ON_SERVER.search(test) is not None

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return "servers" if shares_servers(file, test) else file

    return Scheduling(config, log)
