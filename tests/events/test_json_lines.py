"""JSON lines: what was exported can be imported, and a bad line is an error that names the field."""

import json
from typing import Any

import pytest
from event_strategies import PATIENT, UNSIGNED_MAX, carried_fields, events
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.events.clock import TIME_MS_MAX
from darkroom.events.codec import EVENT_BYTES_MAX, UndecodableEvent, UnknownEventType, encode
from darkroom.events.facts import (
    CommentAdded,
    Event,
    Medium,
    Personal,
    Place,
    PostPublished,
    RecordParked,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    personal,
)
from darkroom.events.json_lines import LINE_BYTES_MAX, BadLine, format_line, parse_line

POST: dict[str, Any] = {
    "type": "PostPublished",
    "time_ms": 1_700_000_000_000,
    "author": 1,
    "caption": "dawn",
    "media": [{"hash": "ff00", "width": 4032, "height": 3024, "placeholder": "LKO2", "description": "a hill"}],
    "tags": ["sea"],
    "mentions": [2],
    "place": {"name": "Brighton", "latitude": 50.5, "longitude": -0.25},
    "key": "k-1",
}


def line(fields: Any) -> bytes:
    return json.dumps(fields).encode()


# ---- there and back


@settings(PATIENT, max_examples=200)
@given(events(plain=True), st.integers(0, TIME_MS_MAX))
def test_what_was_exported_is_imported_the_same(event: Event, time_ms: int) -> None:
    exported = format_line(event, time_ms)
    assert exported.endswith(b"\n")
    assert exported.count(b"\n") == 1
    assert parse_line(exported) == (time_ms, event)


@settings(PATIENT, max_examples=50)
@given(events(plain=True), carried_fields(plain=True))
def test_a_field_that_this_version_does_not_know_goes_in_and_comes_out(event: Event, carried: dict[str, Any]) -> None:
    told = json.loads(format_line(event, 0))
    for name in event.carried or {}:
        del told[name]
    _, read = parse_line(line(told | carried))
    assert read.carried == carried
    told_again = json.loads(format_line(read, 0))
    assert {name: told_again[name] for name in carried} == carried


def test_a_line_reads_as_people_write_it() -> None:
    followed = parse_line(b'{"type": "UserFollowed", "time_ms": 1700000000000, "follower": 17, "followee": 4}')
    assert followed == (1_700_000_000_000, UserFollowed(follower=17, followee=4))
    time_ms, post = parse_line(line(POST))
    assert time_ms == 1_700_000_000_000
    assert post == PostPublished(
        author=1,
        caption=personal("dawn"),
        media=(Medium("ff00", 4032, 3024, "LKO2", personal("a hill")),),
        tags=("sea",),
        mentions=(2,),
        place=Place(personal("Brighton"), 50.5, -0.25),
        key="k-1",
    )
    assert json.loads(format_line(post, time_ms)) == POST


def test_fields_that_hold_nothing_are_left_out() -> None:
    event = CommentAdded(user=1, post=2, author=3, text=personal(""))
    told = {"type": "CommentAdded", "time_ms": 5, "user": 1, "post": 2, "author": 3, "text": ""}
    assert json.loads(format_line(event, 5)) == told


def test_the_time_may_be_left_out() -> None:
    assert parse_line(b'{"type": "UserDeleted", "user": 1}') == (None, UserDeleted(user=1))


@pytest.mark.parametrize("name", ["type", "time_ms", "user", "display_name"])
def test_a_carried_field_never_stands_in_for_one_of_the_line_s_own(name: str) -> None:
    told = json.loads(format_line(UserDeleted(user=1, carried={name: "x", "mood": "calm"}), 5))
    assert told["type"] == "UserDeleted"
    assert told["time_ms"] == 5
    assert told["user"] == 1
    assert told["mood"] == "calm"


def test_text_under_an_unknown_encoding_is_exported_empty_and_never_as_its_bytes() -> None:
    event = UserRegistered(username=Personal(7, b"sealed"), display_name=personal("Ada"))
    assert json.loads(format_line(event, 0))["username"] == ""


@pytest.mark.parametrize(
    "event",
    [
        RecordParked(position=1, reason="\x01" * (EVENT_BYTES_MAX - 10)),
        PostPublished(author=1, caption=personal(""), media=(Medium("", 0, 0, ""),) * 10_900),
        PostPublished(author=1, caption=personal(""), mentions=(UNSIGNED_MAX,) * 7_200),
        UserDeleted(user=1, carried={"x": [False] * (EVENT_BYTES_MAX - 20)}),
    ],
    ids=["control characters", "empty media", "long integers", "one-byte values"],
)
def test_the_largest_events_as_lines_are_not_over_the_limit_of_a_line(event: Event) -> None:
    assert len(encode(event)) > 0.95 * EVENT_BYTES_MAX
    exported = format_line(event, TIME_MS_MAX)
    assert len(exported) <= LINE_BYTES_MAX
    assert parse_line(exported) == (TIME_MS_MAX, event)


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"time_ms": "now"}, "time_ms"),
        ({"time_ms": -1}, "time_ms"),
        ({"time_ms": 1.5}, "time_ms"),
        ({"time_ms": True}, "time_ms"),
        ({"time_ms": TIME_MS_MAX + 1}, "time_ms"),
        ({"author": None}, "author"),
        ({"author": "1"}, "author"),
        ({"author": 1.0}, "author"),
        ({"author": True}, "author"),
        ({"author": [1]}, "author"),
        ({"author": UNSIGNED_MAX + 1}, "author"),
        ({"author": -(10**30)}, "author"),
        ({"mood": UNSIGNED_MAX + 1}, "mood"),
        ({"mood": {"deep": [10**30]}}, "mood"),
        ({"caption": None}, "caption"),
        ({"caption": 5}, "caption"),
        ({"caption": [0, "eA=="]}, "caption"),
        ({"tags": "sea"}, "tags"),
        ({"tags": ["sea", 5]}, "tags[1]"),
        ({"mentions": 2}, "mentions"),
        ({"mentions": [2, "3"]}, "mentions[1]"),
        ({"media": {}}, "media"),
        ({"media": [5]}, "media[0]"),
        ({"media": [["ff00", 1, 1, ""]]}, "media[0]"),
        ({"media": [{}]}, "media[0].hash"),
        ({"media": [{"hash": "ff", "width": 1}]}, "media[0].height"),
        ({"media": [{"hash": "ff", "width": "1", "height": 1}]}, "media[0].width"),
        ({"media": [{"hash": "ff", "width": 1, "height": 1, "placeholder": 5}]}, "media[0].placeholder"),
        ({"media": [{"hash": "ff", "width": 1, "height": 1, "description": 5}]}, "media[0].description"),
        ({"media": [{"hash": "ff", "width": 1, "height": 1, "depth": 5}]}, "media[0].depth"),
        ({"place": 5}, "place"),
        ({"place": [[0, "eA=="], 1, 2]}, "place"),
        ({"place": {"latitude": 1, "longitude": 2}}, "place.name"),
        ({"place": {"name": "x", "longitude": 2}}, "place.latitude"),
        ({"place": {"name": "x", "latitude": 1, "longitude": "2"}}, "place.longitude"),
        ({"place": {"name": "x", "latitude": 1, "longitude": 2, "height": 3}}, "place.height"),
        ({"key": 5}, "key"),
        ({"schema": 2}, "schema"),
        ({"carried": {}}, "carried"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else value,
)
def test_a_bad_field_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_line(line(POST | changes))
    assert named in str(caught.value)


@pytest.mark.parametrize("missing", ["author", "caption"])
def test_a_missing_field_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(BadLine, match=missing):
        parse_line(line({name: value for name, value in POST.items() if name != missing}))


@pytest.mark.parametrize("kind", ["Nothing", "Event", "Fact", "userfollowed", "", 5, None, [], {}, True])
def test_an_unknown_type_is_refused_by_its_name(kind: Any) -> None:
    with pytest.raises(UnknownEventType, match="type"):
        parse_line(line({"type": kind, "user": 1}))


def test_a_line_without_a_type_says_so() -> None:
    with pytest.raises(UnknownEventType, match="type is missing"):
        parse_line(b'{"user": 1}')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"type": "UserDeleted", "user": 1} x', "not JSON"),
        (b'{"type": "UserDeleted", "user": NaN}', "not JSON"),
        (b'{"type": "UserDeleted", "user": 1, "mood": 1e999}', "not JSON"),
        (b'{"type": "RecordParked", "position": 1, "reason": "\\ud800"}', "not JSON"),
        (b'{"type": "RecordParked", "position": 1, "reason": "\\udc00"}', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"UserDeleted"', "not a JSON object"),
        (b'{"type": "UserDeleted\xff"}', "not UTF-8: invalid start byte at byte 21"),
        (b"[" * 100_000, "not JSON"),
        (b'{"type": "UserDeleted", "user": 1, "mood": ' + b"[" * 400 + b"]" * 400 + b"}", "nest more than"),
        (b" " * (LINE_BYTES_MAX + 1), f"line is {LINE_BYTES_MAX + 1} bytes; the limit is {LINE_BYTES_MAX}"),
        (line({"type": "RecordParked", "position": 1, "reason": "x" * EVENT_BYTES_MAX}), "the limit is 65536"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:40]),
)
def test_a_line_that_holds_no_event_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(BadLine, match=reason):
        parse_line(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(PATIENT, max_examples=300)
@given(st.sampled_from(sorted(POST)), json_values)
@example("reason", "\ud800")
def test_any_value_in_any_field_is_read_or_refused_and_nothing_else(name: str, value: Any) -> None:
    try:
        time_ms, event = parse_line(line(POST | {name: value}))
    except (BadLine, UnknownEventType):
        return
    assert parse_line(format_line(event, time_ms or 0)) == (time_ms or 0, event)


@settings(PATIENT, max_examples=300)
@given(st.binary(max_size=80))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises((BadLine, UnknownEventType)):
        parse_line(data)


@settings(PATIENT, max_examples=300)
@given(events(plain=True), st.data())
def test_a_line_with_bytes_changed_is_an_error_or_another_event_and_nothing_else(
    event: Event, data: st.DataObject
) -> None:
    changed = bytearray(format_line(event, 5))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, read = parse_line(bytes(changed))
    except (BadLine, UnknownEventType):
        return
    assert parse_line(format_line(read, 5)) == (5, read)


def test_a_bad_line_is_an_undecodable_event_so_that_one_handler_does_for_both() -> None:
    assert issubclass(BadLine, UndecodableEvent)
    assert issubclass(UnknownEventType, UndecodableEvent)
