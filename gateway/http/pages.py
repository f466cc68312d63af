"""The web page: four files from the package, kept in memory, under a policy that lets nothing else in.

The page is an API client like any other, so nothing is rendered here.
"""

import hashlib
from importlib.resources import files

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.errors import not_found
from darkroom.gateway.http.messages import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
AVATAR = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="#8a4b3c"/>'
    '<circle cx="32" cy="25" r="12" fill="#f3e9df"/><path d="M8 64a24 22 0 0 1 48 0z" fill="#f3e9df"/></svg>'
)


class WebPage:
    """The files and their tags; a browser that has one asks only whether it is still the same."""

    def __init__(self) -> None:
        folder = files("darkroom.gateway.web")
        self._files = {name: ((folder / name).read_bytes(), kind) for name, kind in TYPES.items()}
        self._files["avatar.svg"] = AVATAR.encode(), "image/svg+xml"

    async def index(self, call: Call) -> Response:
        return self._answer(call, "index.html")

    async def file(self, call: Call) -> Response:
        return self._answer(call, call.request.path_params["name"])

    def _answer(self, call: Call, name: str) -> Response:
        if name not in self._files:
            raise not_found("file")
        data, kind = self._files[name]
        headers = HEADERS | {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"'}
        if call.request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=kind)
