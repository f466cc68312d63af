"""Facts as JSON lines, for import, export and tests: `{"type": "UserFollowed", "time_ms": 17…, "follower": 17, …}`.

Personal fields are plain text here. A field that this version does not know is carried, both ways.
"""

import re
from typing import Any

import msgspec

from darkroom.events.clock import TIME_MS_MAX
from darkroom.events.codec import TAGS, UndecodableEvent, UnknownEventType, encode
from darkroom.events.facts import EVENT_TYPES, Event, Medium, Personal, Place

LINE_BYTES_MAX = 1024 * 1024  # JSON takes up to nine times an event's own bytes: what was exported can be imported

_KINDS = {kind.__name__: kind for kind in EVENT_TYPES}
_FIELDS = {kind: tuple(f for f in kind.__struct_fields__ if f not in ("schema", "carried")) for kind in EVENT_TYPES}
_PERSONAL = {"username", "display_name", "bio", "caption", "text"}


class BadLine(UndecodableEvent):
    """A line that holds no event; the message names the field."""


def parse_line(line: bytes) -> tuple[int | None, Event]:
    """The time (or None where it is left out) and the event of one line; BadLine or UnknownEventType otherwise."""
    if len(line) > LINE_BYTES_MAX:
        raise BadLine(f"line is {len(line)} bytes; the limit is {LINE_BYTES_MAX}")
    fields = _json_object(line)
    name = fields.pop("type", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UnknownEventType("type is missing" if name is None else f"type {name!r} is unknown")
    time_ms = fields.pop("time_ms", None)
    if time_ms is not None and (type(time_ms) is not int or not 0 <= time_ms <= TIME_MS_MAX):
        raise BadLine(f"time_ms must be an integer from 0 to {TIME_MS_MAX}")
    event = _event(kind, fields)
    try:
        encode(event)
    except UndecodableEvent as error:
        raise BadLine(_too_large(event) or str(error)) from None
    return time_ms, event


def format_line(event: Event, time_ms: int) -> bytes:
    """One line with its line end; fields that hold nothing are left out."""
    line: dict[str, Any] = {"type": type(event).__name__, "time_ms": time_ms}
    for field in _FIELDS[type(event)]:
        value = getattr(event, field)
        if value is not None and value != ():
            line[field] = _plain(value)
    for field, value in (event.carried or {}).items():
        if field not in line and field not in _FIELDS[type(event)]:
            line[field] = value
    return msgspec.json.encode(line) + b"\n"


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        # The text is decoded first, so that what is not UTF-8 is named as such.
        fields = msgspec.json.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadLine("not a JSON object")
    return fields


def _event(kind: type[Event], fields: dict[str, Any]) -> Event:
    values: list[Any] = [TAGS[kind], kind.SCHEMA, None]
    for field in _FIELDS[kind]:
        values.append(_wire(kind, field, fields.pop(field, None)))
    values[2] = fields or None
    for field in ("schema", "carried"):
        if field in fields:
            raise BadLine(f"{kind.__name__}.{field} is not a field that a line may set")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise BadLine(f"{kind.__name__}: {_named(kind, str(error))}") from None


def _wire(kind: type[Event], field: str, value: Any) -> Any:
    """The field's value in wire order, with personal text wrapped; wrong types are left for the conversion to name."""
    where = f"{kind.__name__}.{field}"
    if field in _PERSONAL:
        return value if value is None else _text(where, value)
    if field in ("media", "tags", "mentions"):
        if value is None:
            return ()
        if field == "media" and isinstance(value, list):
            return [_medium(f"{where}[{index}]", medium) for index, medium in enumerate(value)]
        return value
    if field == "place" and value is not None:
        _refuse_others(where, value, Place.__struct_fields__)
        return [_text(f"{where}.name", value.get("name")), value.get("latitude"), value.get("longitude")]
    return value


def _medium(where: str, value: Any) -> Any:
    _refuse_others(where, value, Medium.__struct_fields__)
    description = value.get("description")
    wrapped = None if description is None else _text(f"{where}.description", description)
    return [value.get("hash"), value.get("width"), value.get("height"), value.get("placeholder", ""), wrapped]


def _refuse_others(where: str, value: Any, known: tuple[str, ...]) -> None:
    # The wire form, an array, is refused too: it could claim an encoding of personal text that is not plain.
    if not isinstance(value, dict):
        raise BadLine(f"{where} must be an object")
    for name in value:
        if name not in known:
            raise BadLine(f"{where}.{name} is not a known field")


def _text(where: str, value: Any) -> Personal:
    if not isinstance(value, str):
        raise BadLine(f"{where} must be a string")
    try:
        return Personal(0, value.encode())
    except UnicodeEncodeError:
        raise BadLine(f"{where} has a lone surrogate, which is not text") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Personal):
        return value.text
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Medium | Place):
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return {name: field for name, field in fields.items() if field is not None}
    return value


def _named(kind: type[Event], message: str) -> str:
    """msgspec names an array's element by index; a reader wants the field."""
    return re.sub(r"`\$\[(\d+)\]([^`]*)`", lambda path: f"`{_path(kind, int(path[1]), path[2])}`", message)


def _path(kind: type[Event], index: int, rest: str) -> str:
    field = _FIELDS[kind][index - 3]
    if inner := re.fullmatch(r"(\[\d+\])\[(\d+)\]", rest):  # only media are arrays of objects
        return f"{field}{inner[1]}.{Medium.__struct_fields__[int(inner[2])]}"
    if field == "place" and rest:
        return f"{field}.{Place.__struct_fields__[int(rest.strip('[]'))]}"
    return field + rest


def _too_large(event: Event) -> str | None:
    """The field whose integer is outside 64 bits, if that is what keeps the event from being stored."""
    fields = {name: getattr(event, name) for name in _FIELDS[type(event)]} | (event.carried or {})
    for name, value in fields.items():
        try:
            msgspec.msgpack.encode(value)
        except OverflowError:
            return f"{type(event).__name__}.{name}: an integer is outside 64 bits"
        except RecursionError:
            return None
    return None
