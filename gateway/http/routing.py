"""Which route answers a path: one look-up where the path has no parameter, else one pattern after the other."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from darkroom.gateway.http.errors import Refused

T = TypeVar("T")
_PARAMETER = re.compile(r"{(\w+)}")


class MethodNotAllowed(Refused):
    """The path is there, for other methods."""

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__(405, "method not allowed")
        self._allowed = sorted(allowed)

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self._allowed)}


class Routes(Generic[T]):
    """From (method, path) to what answers it. `{name}` in a path stands for anything but a slash; GET is HEAD too."""

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        methods: dict[str, dict[str, T]] = {}
        for method, path, target in routes:
            methods.setdefault(path, {})[method] = target
            if method == "GET":
                methods[path]["HEAD"] = target
        self._whole = {path: found for path, found in methods.items() if "{" not in path}
        self._patterns = [(_pattern(path), found) for path, found in methods.items() if "{" in path]

    def find(self, method: str, path: str) -> tuple[T, Mapping[str, str]]:
        """The target and the path's parameters. Refused 404 or 405."""
        allowed: list[str] = []
        for methods, parameters in self._matching(path):
            if method in methods:
                return methods[method], parameters
            allowed += methods
        raise MethodNotAllowed(allowed) if allowed else Refused(404, "not found")

    def _matching(self, path: str) -> Iterator[tuple[dict[str, T], Mapping[str, str]]]:
        if path in self._whole:
            yield self._whole[path], {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                yield methods, match.groupdict()


def _pattern(path: str) -> re.Pattern[str]:
    """Every other part of the split is a parameter's name."""
    parts = _PARAMETER.split(path)
    return re.compile("".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))
