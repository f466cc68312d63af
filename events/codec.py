"""Facts as bytes: a msgpack array of type tag, schema version, carried fields, then the type's own fields.

An unknown field is carried by name; an unknown type or a newer schema is an error, never a guess. Old schemas are
rewritten to the present one as they are read (upcasting, as in Greg Young's *Versioning in an Event Sourced System*).
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from darkroom.events.facts import EVENT_TYPES, Event

EVENT_BYTES_MAX = 64 * 1024
CARRIED_DEPTH_MAX = 32  # far from Python's recursion limit, on which a reader deep in its own stack would fail

Upcaster = Callable[[list[object]], list[object]]
"""Takes the fields of schema n (without tag and version) and returns those of schema n + 1."""


class UndecodableEvent(ValueError):
    """The bytes are no event: not msgpack, a wrong field type, or over a limit."""


class UnknownEventType(UndecodableEvent):
    """The bytes are an event of a type or schema that this version does not know."""


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE: Callable[[bytes | memoryview], Event] = msgspec.msgpack.Decoder(Event).decode
_DECODE_FIELDS = msgspec.msgpack.Decoder(list).decode
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)  # wrong shape, bad UTF-8, nested without end

TAGS: dict[type[Event], int] = {kind: kind.__struct_config__.tag for kind in EVENT_TYPES}  # type: ignore[misc]
KINDS: dict[int, type[Event]] = {tag: kind for kind, tag in TAGS.items()}
_SCHEMAS = {tag: kind.SCHEMA for tag, kind in KINDS.items()}
_PRESENT = frozenset(bytes((0x90 | n, tag, schema)) for tag, schema in _SCHEMAS.items() for n in range(16))
"""How events of the present schemas begin. Tag and schema are small integers, one byte each behind a one-byte array
header: a look at them costs less than a second decoding."""


def encode(event: Event) -> bytes:
    """The event's bytes; UndecodableEvent where they could not be read back, or are over `EVENT_BYTES_MAX`."""
    if event.carried is not None and _nests_deeper(event.carried, CARRIED_DEPTH_MAX):
        raise UndecodableEvent(f"{type(event).__name__}: carried fields nest more than {CARRIED_DEPTH_MAX} deep")
    try:
        data = _ENCODE(event)
    except OverflowError:
        raise UndecodableEvent(f"{type(event).__name__}: an integer is outside 64 bits") from None
    except UnicodeEncodeError:
        raise UndecodableEvent(f"{type(event).__name__}: a lone surrogate is not text") from None
    if len(data) > EVENT_BYTES_MAX:
        raise UndecodableEvent(f"event is {len(data)} bytes; the limit is {EVENT_BYTES_MAX}")
    return data


class Codec:
    """Decodes events of every schema for which it was given the upcasters, keyed by (tag, schema upcast from)."""

    def __init__(self, upcasters: Mapping[tuple[int, int], Upcaster] | None = None) -> None:
        self._upcasters = dict(upcasters or {})

    def decode(self, data: bytes | memoryview) -> Event:
        """The event in `data`; UnknownEventType or UndecodableEvent otherwise."""
        if data[:3] in _PRESENT:
            try:
                return _DECODE(data)
            except _MALFORMED as error:
                raise UndecodableEvent(f"{KINDS[data[1]].__name__}: {error}") from None
        return self._decode_other_schema(data)

    def _decode_other_schema(self, data: bytes | memoryview) -> Event:
        try:
            tag, schema, *fields = _DECODE_FIELDS(data)
        except _MALFORMED as error:
            raise UndecodableEvent(f"not an event: {error}") from None
        if not isinstance(tag, int) or tag not in _SCHEMAS:
            raise UnknownEventType(f"event type {tag!r} is unknown to this version")
        name, current = KINDS[tag].__name__, _SCHEMAS[tag]
        if not isinstance(schema, int) or isinstance(schema, bool) or schema > current:
            raise UnknownEventType(f"{name} has schema {schema!r}; this version knows up to {current}")
        while schema < current:
            upcast = self._upcasters.get((tag, schema))
            if upcast is None:
                raise UnknownEventType(f"{name} has schema {schema}, for which there is no upcaster")
            try:
                fields = upcast(fields)
            except Exception as error:
                raise UndecodableEvent(f"{name}: these fields are not of schema {schema}: {error!r}") from error
            schema += 1
        try:
            return _DECODE(_ENCODE([tag, schema, *fields]))
        except _MALFORMED as error:
            raise UndecodableEvent(f"{name}: {error}") from None


def _nests_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        inner: Iterable[object] = (*value, *value.values())
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return False
    return levels == 0 or any(_nests_deeper(item, levels - 1) for item in inner)
