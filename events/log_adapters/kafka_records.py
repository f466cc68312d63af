"""A record of the log as Kafka keeps it, one event a record.

Key: the append token, which is the appender's random name and a serial number, so that no two records share one and an
append can be found again. Value: two bytes that say what it is, a checksum over everything else, time, event.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from darkroom.events.codec import Codec
from darkroom.events.facts import Event
from darkroom.events.log import DamagedRecord

MARK = b"\xd4\x01"
"""Darkroom's record, format 1."""

TOKEN_BYTES = 16
RECORD_BYTES_MORE = TOKEN_BYTES + 14
"""What a record has beside the event."""

_NAME_BYTES = 8
_BODY = 6  # where time and event begin in a value
_TIME, _SERIAL = struct.Struct("<Q"), struct.Struct(">Q")


class NotOurs(DamagedRecord):
    """The record was written by something else."""


def new_name() -> bytes:
    """A random name for an appender."""
    return os.urandom(_NAME_BYTES)


def token(name: bytes, serial: int) -> bytes:
    return name + _SERIAL.pack(serial)


def messages_of(encoded: Sequence[tuple[int, bytes]], name: bytes, serial: int) -> list[dict[str, Any]]:
    """What the producer is given for these times and events, the first under that serial number."""
    pack_time, pack_serial, crc32 = _TIME.pack, _SERIAL.pack, zlib.crc32
    keyed = [
        (name + pack_serial(number), pack_time(time_ms) + data)
        for number, (time_ms, data) in enumerate(encoded, serial)
    ]
    return [{"key": key, "value": MARK + crc32(body, crc32(key)).to_bytes(4, "little") + body} for key, body in keyed]


def record_of(body: bytes) -> tuple[int, Event]:
    """The time and the event of a body. UndecodableEvent."""
    return _TIME.unpack_from(body)[0], Codec().decode(body[_TIME.size :])


def body_of(position: int, key: bytes | None, value: bytes | None) -> bytes:
    """Time and event of the record; NotOurs or DamagedRecord where they are not what was written."""
    if key is None or value is None or len(key) != TOKEN_BYTES or value[:2] != MARK or len(value) < _BODY + _TIME.size:
        raise NotOurs(position, "it is no record of Darkroom's; something else writes to the topic")
    body = value[_BODY:]
    if zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "little") != value[2:_BODY]:
        raise DamagedRecord(position, "its checksum does not match, in Kafka")
    return body
