"""The routes and their document are the same list."""

import re
from pathlib import Path

from darkroom.gateway.http.app import ROUTES

DOCUMENT = (Path(__file__).parents[2] / "docs/http.md").read_text(encoding="utf-8")


def test_every_route_is_documented_with_its_scope_and_no_other() -> None:
    documented = {(method, path): scope for method, path, scope in rows()}
    served = {(method, path): access for method, path, access, _ in ROUTES if not path.endswith("/")}
    assert documented.keys() == served.keys()
    for route, access in served.items():
        scope = documented[route]
        assert scope in access.scopes if access.signed_in else scope == "anybody", route


def rows() -> list[tuple[str, str, str]]:
    return re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \| (\S+) \|", DOCUMENT, re.MULTILINE)


def test_no_route_is_documented_twice() -> None:
    assert len(rows()) == len(set(rows()))
