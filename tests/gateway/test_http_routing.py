"""Which route answers: a path as it stands comes before a path with parameters, and refusals name the methods."""

import pytest

from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.routing import Routes

ROUTES = Routes(
    [
        ("GET", "/people/{id}", "person"),
        ("GET", "/people/search", "search"),
        ("PATCH", "/people/change", "change"),
        ("DELETE", "/people/{id}", "farewell"),
        ("GET", "/@{name}/{id}", "post"),
        ("GET", "/a.b", "dotted"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "target", "parameters"),
    [
        ("GET", "/people/search", "search", {}),
        ("GET", "/people/7", "person", {"id": "7"}),
        ("HEAD", "/people/7", "person", {"id": "7"}),
        ("DELETE", "/people/7", "farewell", {"id": "7"}),
        ("GET", "/people/change", "person", {"id": "change"}),
        ("GET", "/@ada/12", "post", {"name": "ada", "id": "12"}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, target: str, parameters: dict[str, str]) -> None:
    assert ROUTES.find(method, path) == (target, parameters)


@pytest.mark.parametrize(
    "path", ["", "/", "/people", "/people/", "/people/7/8", "/people/7/", "x/people/7", "/axb", "/@/1"]
)
def test_a_path_of_no_route_is_404(path: str) -> None:
    with pytest.raises(Refused) as caught:
        ROUTES.find("GET", path)
    assert caught.value.status == 404


def test_another_method_is_405_and_all_that_there_are_are_told() -> None:
    with pytest.raises(Refused) as caught:
        ROUTES.find("POST", "/people/change")
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "DELETE, GET, HEAD, PATCH"})
