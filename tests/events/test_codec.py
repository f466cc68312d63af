"""The codec: what it builds comes back the same, an independent decoder agrees, and bad bytes are errors by name."""

import math
from typing import Any

import msgpack
import msgspec
import pytest
from event_strategies import PATIENT, SIGNED_MIN, UNSIGNED_MAX, carried_fields, events, events_of, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.events.codec import (
    CARRIED_DEPTH_MAX,
    EVENT_BYTES_MAX,
    KINDS,
    TAGS,
    Codec,
    UndecodableEvent,
    UnknownEventType,
    encode,
)
from darkroom.events.facts import (
    EVENT_TYPES,
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    Medium,
    Personal,
    Place,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    ProfileChanged,
    RecordParked,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserMuted,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
    personal,
)

decode = Codec().decode

# One event of each type with every field filled, and its bytes in the log for ever. A change here is a change of the
# format: it needs a new schema version and an upcaster, not a new line.
GOLDEN: list[tuple[Event, str]] = [
    (
        UserRegistered(username=personal("ada"), display_name=personal("Ada Łovelace"), claim="c1"),
        "960101c09200c4036164619200c40d41646120c5816f76656c616365a26331",
    ),
    (
        ProfileChanged(user=1, display_name=personal("Ada"), bio=personal("☕"), avatar="ab"),
        "970201c0019200c4034164619200c403e29895a26162",
    ),
    (UserDeleted(user=300), "940301c0cd012c"),
    (
        PostPublished(
            author=1,
            caption=personal("dawn"),
            media=(Medium("ff00", 4032, 3024, "LKO2", personal("a hill")), Medium("ff01", 1, 1, "")),
            tags=("sea", "sun"),
            mentions=(2, 70000),
            place=Place(personal("Brighton"), 50.8225, -0.1372),
            key="k-1",
        ),
        "9a0401c0019200c4046461776e9295a466663030cd0fc0cd0bd0a44c4b4f329200c406612068696c6c95a4666630310101a0c092a373"
        "6561a373756e9202ce00011170939200c4084272696768746f6ecb40496947ae147ae1cbbfc18fc504816f00a36b2d31",
    ),
    (PostDeleted(author=1, post=7), "950501c00107"),
    (PostLiked(user=2, post=7, author=1), "960601c0020701"),
    (PostUnliked(user=2, post=7, author=1), "960701c0020701"),
    (
        CommentAdded(
            user=2, post=7, author=1, text=personal("nice"), mentions=(1,), in_reply_to=9, in_reply_to_user=3, key="k"
        ),
        "9b0801c00207019200c4046e69636591010903a16b",
    ),
    (CommentDeleted(user=2, comment=10, post=7, author=1), "970901c0020a0701"),
    (UserFollowed(follower=2, followee=1), "950a01c00201"),
    (UserUnfollowed(follower=2, followee=1), "950b01c00201"),
    (UserBlocked(user=1, target=2), "950c01c00102"),
    (UserUnblocked(user=1, target=2), "950d01c00102"),
    (UserMuted(user=1, target=2), "950e01c00102"),
    (UserUnmuted(user=1, target=2, carried={"until": 5}), "950f0181a5756e74696c050102"),
    (FeedViewed(user=1, newest=2**47), "951001c001cf0000800000000000"),
    (RecordParked(position=UNSIGNED_MAX, reason="poison"), "951101c0cfffffffffffffffffa6706f69736f6e"),
]
FULL: dict[type[Event], Event] = {type(event): event for event, _ in GOLDEN}

each_type = pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)


def wire(value: Any) -> Any:
    """What the fields of a value look like to a decoder that knows nothing of Darkroom."""
    if isinstance(value, tuple):
        return [wire(item) for item in value]
    if isinstance(value, Personal | Medium | Place):
        return [wire(getattr(value, name)) for name in value.__struct_fields__]
    return value


def wire_array(event: Event) -> list[Any]:
    own = [name for name in event.__struct_fields__ if name not in ("schema", "carried")]
    return [TAGS[type(event)], event.schema, event.carried, *(wire(getattr(event, name)) for name in own)]


# ---- round trips


@each_type
@settings(PATIENT, max_examples=40)
@given(data=st.data())
def test_whatever_event_is_encoded_comes_back_the_same(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    stored = encode(event)
    assert decode(stored) == event
    assert decode(memoryview(stored)) == event
    assert encode(decode(stored)) == stored


@settings(PATIENT, max_examples=150)
@given(events())
def test_an_independent_decoder_sees_tag_schema_carried_and_then_the_fields(event: Event) -> None:
    assert msgpack.unpackb(encode(event), strict_map_key=False) == wire_array(event)


@settings(PATIENT, max_examples=150)
@given(events())
def test_what_an_independent_encoder_wrote_is_read(event: Event) -> None:
    assert decode(msgpack.packb(wire_array(event))) == event


@settings(PATIENT, max_examples=100)
@given(events(), carried_fields())
def test_a_field_of_a_newer_writer_survives_reading_and_writing_again(event: Event, carried: dict[str, Any]) -> None:
    stored = encode(msgspec.structs.replace(event, carried=carried))
    read = decode(stored)
    assert read.carried == carried
    assert encode(read) == stored


def test_every_type_has_its_own_tag_below_128_and_none_is_left_out() -> None:
    assert len(KINDS) == len(EVENT_TYPES) == len(FULL)
    # The decoder looks at tag and schema as single bytes.
    assert all(0 <= tag <= 127 and kind.SCHEMA <= 127 for tag, kind in KINDS.items())


@pytest.mark.parametrize(("event", "stored"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_bytes_of_each_type_are_these_for_ever(event: Event, stored: str) -> None:
    assert encode(event).hex() == stored
    assert decode(bytes.fromhex(stored)) == event


def test_optional_fields_may_be_missing_at_the_end() -> None:
    assert decode(msgpack.packb([4, 1, None, 1, [0, b""]])) == PostPublished(author=1, caption=personal(""))


def test_a_longer_way_to_write_the_same_array_is_read_too() -> None:
    stored = encode(UserFollowed(follower=1, followee=2))
    assert decode(b"\xdc\x00\x05" + stored[1:]) == UserFollowed(follower=1, followee=2)


# ---- personal text


@PATIENT
@given(texts)
def test_plain_personal_text_is_given_back(text: str) -> None:
    assert personal(text).text == text


def test_text_under_an_unknown_encoding_is_not_shown() -> None:
    assert Personal(7, b"sealed").text == ""


def test_a_lone_surrogate_is_not_personal_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        personal("\ud800")


# ---- what is refused when writing


@pytest.mark.parametrize("number", [UNSIGNED_MAX + 1, SIGNED_MIN - 1])
def test_an_integer_outside_64_bits_is_refused_when_writing(number: int) -> None:
    with pytest.raises(UndecodableEvent, match="UserDeleted: an integer is outside 64 bits"):
        encode(UserDeleted(user=number))
    with pytest.raises(UndecodableEvent, match="64 bits"):
        encode(UserDeleted(user=1, carried={"x": [number]}))


@pytest.mark.parametrize("number", [UNSIGNED_MAX, SIGNED_MIN, 0, -1, 2**63])
def test_an_integer_of_64_bits_is_stored(number: int) -> None:
    assert decode(encode(UserDeleted(user=number))) == UserDeleted(user=number)


def test_a_lone_surrogate_is_refused_when_writing() -> None:
    with pytest.raises(UndecodableEvent, match="RecordParked: a lone surrogate"):
        encode(RecordParked(position=1, reason="\ud800"))


def test_an_event_at_the_size_limit_is_stored_and_one_byte_more_is_refused() -> None:
    overhead = len(encode(RecordParked(position=1, reason="x" * 40_000))) - 40_000
    largest = RecordParked(position=1, reason="x" * (EVENT_BYTES_MAX - overhead))
    assert len(encode(largest)) == EVENT_BYTES_MAX
    assert decode(encode(largest)) == largest
    with pytest.raises(UndecodableEvent, match=f"{EVENT_BYTES_MAX + 1} bytes; the limit is {EVENT_BYTES_MAX}"):
        encode(RecordParked(position=1, reason=largest.reason + "x"))


def test_carried_fields_nest_up_to_a_limit_far_below_the_recursion_limit() -> None:
    nested: Any = 1
    for _ in range(CARRIED_DEPTH_MAX - 1):  # the map of carried fields is a level too
        nested = [nested] if nested != 1 else {"deep": nested}
    assert decode(encode(UserDeleted(user=1, carried={"x": nested}))) == UserDeleted(user=1, carried={"x": nested})
    with pytest.raises(UndecodableEvent, match="nest more than"):
        encode(UserDeleted(user=1, carried={"x": [nested]}))


# ---- what is refused when reading


@pytest.mark.parametrize("tag", [0, 18, 127, 128, 255, -1, 2**64 - 1, "x", None, [1], {}, 1.0, b"\x01"])
def test_an_event_of_an_unknown_type_is_an_error_by_its_name(tag: Any) -> None:
    with pytest.raises(UnknownEventType, match="unknown to this version"):
        decode(msgpack.packb([tag, 1, None, 1, 2, 3]))


@each_type
@pytest.mark.parametrize("schema", [2, 127, 128, 2**64 - 1, None, "1", 1.0, True, [1]])
def test_an_event_of_a_newer_or_senseless_schema_is_an_error_by_its_name(kind: type[Event], schema: Any) -> None:
    array = wire_array(FULL[kind])
    array[1] = schema
    with pytest.raises(UnknownEventType, match=f"{kind.__name__} has schema"):
        decode(msgpack.packb(array))


@each_type
def test_an_older_schema_without_an_upcaster_is_an_error_by_its_name(kind: type[Event]) -> None:
    array = wire_array(FULL[kind])
    array[1] = 0
    with pytest.raises(UnknownEventType, match=f"{kind.__name__} has schema 0, for which there is no upcaster"):
        decode(msgpack.packb(array))


@each_type
@pytest.mark.parametrize("wrong", [True, 1.5, msgpack.ExtType(5, b"x"), {"a": 1}, [[]]])
def test_a_field_of_the_wrong_type_is_an_error_by_the_type_of_the_event(kind: type[Event], wrong: Any) -> None:
    right = wire_array(FULL[kind])
    for index in range(3, len(right)):
        with pytest.raises(UndecodableEvent, match=kind.__name__) as caught:
            decode(msgpack.packb([*right[:index], wrong, *right[index + 1 :]]))
        assert type(caught.value) is UndecodableEvent


@each_type
def test_a_required_field_that_holds_nothing_is_an_error(kind: type[Event]) -> None:
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    names = list(kind.__struct_fields__)
    for name in required:
        array = wire_array(FULL[kind])
        array[1 + names.index(name)] = None
        with pytest.raises(UndecodableEvent, match=kind.__name__):
            decode(msgpack.packb(array))


@each_type
def test_an_element_more_than_the_schema_has_is_an_error_and_not_dropped(kind: type[Event]) -> None:
    with pytest.raises(UndecodableEvent, match=kind.__name__):
        decode(msgpack.packb([*wire_array(FULL[kind]), 1]))


@pytest.mark.parametrize("carried", [1, [1], "x", {1: 2}, {b"x": 1}])
def test_carried_fields_have_names(carried: Any) -> None:
    with pytest.raises(UndecodableEvent):
        decode(msgpack.packb([3, 1, carried, 1], strict_types=False))


@each_type
def test_an_event_cut_short_at_any_byte_is_an_error(kind: type[Event]) -> None:
    stored = encode(FULL[kind])
    for length in range(len(stored)):
        with pytest.raises(UndecodableEvent):
            decode(stored[:length])


@each_type
def test_bytes_after_the_event_are_an_error(kind: type[Event]) -> None:
    with pytest.raises(UndecodableEvent, match="trailing"):
        decode(encode(FULL[kind]) + b"\x00")


@settings(PATIENT, max_examples=500)
@given(st.binary(max_size=60))
@example(b"\x91" * 10_000)  # arrays in arrays, deeper than Python recurses
@example(b"\x94\x03\x01\x81\xa1a" + b"\x91" * 10_000)
@example(b"\xdd\xff\xff\xff\xff")  # an array that claims four thousand million elements
@example(b"\x93\x63\x01\x81\x91\x01\x01")  # a map with an array for a key
@example(b"\x95\x11\x01\xc0\x01\xa1\xff")  # text that is not UTF-8
@example(b"\x92\xa1\xff\x01")
@example(b"\x93\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01")  # a time that is none
def test_garbage_is_an_error_and_nothing_else(data: bytes) -> None:
    try:
        event = decode(data)
    except UndecodableEvent:
        return
    assert decode(encode(event)) == event


@settings(PATIENT, max_examples=500)
@given(events(), st.data())
def test_an_event_with_bytes_changed_is_an_error_or_another_event_and_nothing_else(
    event: Event, data: st.DataObject
) -> None:
    stored = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(stored))
    except UndecodableEvent:
        return
    assert not_a_number(read) or decode(encode(read)) == read


def not_a_number(event: Event) -> bool:
    """Whether it holds a NaN, which is equal to nothing, itself included."""
    return any(isinstance(number, float) and math.isnan(number) for number in flat(wire_array(event)))


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for pair in value.items() for item in pair for number in flat(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in flat(item)]
    return [value]


# ---- upcasting, proved on versions that never were


def names_become_personal(fields: list[object]) -> list[object]:
    """Version 0 of UserRegistered: carried, username and display name as bare strings, no claim."""
    carried, username, display_name = fields
    assert isinstance(username, str)
    assert isinstance(display_name, str)
    return [carried, [0, username.encode()], [0, display_name.encode()], None]


def one_name_becomes_two(fields: list[object]) -> list[object]:
    """Version -1 of UserRegistered: one name for both."""
    carried, name = fields
    return [carried, name, name]


UPCASTING = Codec({(1, 0): names_become_personal, (1, -1): one_name_becomes_two})
ADA = UserRegistered(username=personal("ada"), display_name=personal("Ada"))


def test_an_old_schema_is_rewritten_to_the_present_one() -> None:
    assert UPCASTING.decode(msgpack.packb([1, 0, None, "ada", "Ada"])) == ADA


def test_an_old_schema_takes_one_step_after_another() -> None:
    read = UPCASTING.decode(msgpack.packb([1, -1, None, "ada"]))
    assert read == UserRegistered(username=personal("ada"), display_name=personal("ada"))


def test_a_rewritten_event_is_written_in_the_present_schema_and_keeps_what_it_carried() -> None:
    read = UPCASTING.decode(msgpack.packb([1, 0, {"mood": "calm"}, "ada", "Ada"]))
    assert msgpack.unpackb(encode(read)) == [1, 1, {"mood": "calm"}, [0, b"ada"], [0, b"Ada"], None]


def test_upcasters_leave_the_present_schema_and_other_types_alone() -> None:
    for event in FULL.values():
        assert UPCASTING.decode(encode(event)) == event
    with pytest.raises(UnknownEventType, match="no upcaster"):
        UPCASTING.decode(msgpack.packb([2, 0, None, 1]))


@pytest.mark.parametrize("fields", [[], [None], [None, 1, 2], [None, "ada", "Ada", "more"], ["not carried", "a", "b"]])
def test_an_old_event_that_its_upcaster_cannot_read_is_an_error_by_its_type(fields: list[Any]) -> None:
    with pytest.raises(UndecodableEvent, match="UserRegistered"):
        UPCASTING.decode(msgpack.packb([1, 0, *fields]))
