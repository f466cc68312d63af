"""Hypothesis strategies for facts: whatever the codec can build, and with `plain` whatever a JSON line can tell.

They are made from the types' own annotations, so that a new field or type is drawn without a change here.
"""

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from darkroom.events.facts import EVENT_TYPES, Event, Medium, Personal, Place, personal

# Whether an example is right, not how soon it is drawn on a busy machine.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SIGNED_MIN, UNSIGNED_MAX = -(2**63), 2**64 - 1

integers = st.one_of(st.integers(1, 2**48 - 1), st.integers(SIGNED_MIN, UNSIGNED_MAX))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain_texts = texts.map(personal)
sealed_texts = st.builds(Personal, scheme=st.integers(1, 255), data=st.binary(max_size=20))

_OWN_NAMES = frozenset(name for kind in EVENT_TYPES for name in kind.__struct_fields__) | {"type", "time_ms"}


def _values(*, plain: bool) -> st.SearchStrategy[Any]:
    numbers = integers | st.floats(allow_nan=False, allow_infinity=False)
    scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | texts
    return st.recursive(
        scalars if plain else scalars | st.binary(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    )


def carried_fields(*, plain: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a newer writer: any name that no type of today has, any value that msgpack (or JSON) can hold."""
    names = texts.filter(lambda name: name not in _OWN_NAMES)
    return st.dictionaries(names, _values(plain=plain), min_size=1, max_size=3)


def events_of(kind: type[Event], *, plain: bool = False) -> st.SearchStrategy[Event]:
    """Any event of one type."""
    fields = {
        field.name: _of_annotation(field.type, plain=plain)
        for field in msgspec.structs.fields(kind)
        if field.name not in ("schema", "carried")
    }
    carried = st.none() | carried_fields(plain=plain)
    return st.builds(kind, carried=carried, **fields)


def events(*, plain: bool = False) -> st.SearchStrategy[Event]:
    """Any event that the codec can build; with `plain`, any that a JSON line can tell: no sealed text, no bytes."""
    return st.one_of([events_of(kind, plain=plain) for kind in EVENT_TYPES])


def _of_annotation(annotation: Any, *, plain: bool) -> st.SearchStrategy[Any]:
    texts_of_people = plain_texts if plain else st.one_of(plain_texts, sealed_texts)
    degrees = st.floats(allow_nan=False, allow_infinity=False)
    places = st.builds(Place, name=texts_of_people, latitude=degrees, longitude=degrees)
    media = st.builds(
        Medium,
        hash=texts,
        width=integers,
        height=integers,
        placeholder=texts,
        description=st.none() | texts_of_people,
    )
    known: dict[Any, st.SearchStrategy[Any]] = {
        int: integers,
        str: texts,
        Personal: texts_of_people,
        int | None: st.none() | integers,
        str | None: st.none() | texts,
        Personal | None: st.none() | texts_of_people,
        Place | None: st.none() | places,
        tuple[int, ...]: st.lists(integers, max_size=3).map(tuple),
        tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
        tuple[Medium, ...]: st.lists(media, max_size=2).map(tuple),
    }
    return known[annotation]
