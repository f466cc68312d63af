"""Multipart bodies, parsed in memory: a body is bounded before it comes here, and no temporary file is ever made."""

from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.fields import FIELDS_MAX, Fields

FILES_MAX = 4
HEADER_BYTES_MAX = 16 * 1024


@dataclass
class _Part:
    name: bytes = b""
    filename: bytes | None = None
    disposition: bytes = b""
    header: bytes = b""
    value: bytes = b""
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """The parser's callbacks: collects the parts of one body."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []

    def on_part_begin(self) -> None:
        if len(self.parts) >= FIELDS_MAX:
            raise _bad(f"it has more than {FIELDS_MAX} parts")
        self.parts.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].header += data[start:end]
        self._check_header()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self.parts[-1].header) + len(self.parts[-1].value) > HEADER_BYTES_MAX:
            raise _bad("a part's header is too long")

    def on_header_end(self) -> None:
        part = self.parts[-1]
        if part.header.lower() == b"content-disposition":
            part.disposition = part.value
        part.header = part.value = b""

    def on_headers_finished(self) -> None:
        part = self.parts[-1]
        _, options = parse_options_header(part.disposition)
        if b"name" not in options:
            raise _bad("a part has no name")
        part.name, part.filename = options[b"name"], options.get(b"filename")
        if sum(other.filename is not None for other in self.parts) > FILES_MAX:
            raise _bad(f"it has more than {FILES_MAX} files")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]


def parse_multipart(content_type: str, body: bytes) -> tuple[Fields, dict[str, bytes]]:
    """Its fields and its files by name; Refused 400 where it is not whole or not UTF-8."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise _bad("its boundary is missing")
    found = _Parts()
    callbacks: dict[str, Any] = {name: getattr(found, name) for name in dir(found) if name.startswith("on_")}
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _bad(str(error)) from None
    if not body.rstrip().endswith(b"--" + boundary + b"--"):
        raise _bad("it is cut short")
    try:
        texts = [(part.name.decode(), part.data.decode()) for part in found.parts if part.filename is None]
        files = {part.name.decode(): bytes(part.data) for part in found.parts if part.filename is not None}
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason}", "body") from None
    return Fields(texts), files


def _bad(why: str) -> Refused:
    return Refused(400, f"the body is not multipart/form-data: {why}", "body")
