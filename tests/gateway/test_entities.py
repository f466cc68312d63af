"""A status is encoded once, with places for its counters; they are filled in and nothing else is touched."""

import msgspec
import pytest

from darkroom.events.facts import PostPublished, personal
from darkroom.gateway.http.entities import Entry, Gathered, Json, account, status
from darkroom.projections.engagement import PostCounters, UserCounters
from darkroom.projections.people import ProfileRow

ANN, POST = 7, 70
ORIGIN = "http://darkroom.test"


def gathered(name: str, counters: UserCounters, likes: PostCounters, *, liked: bool) -> Gathered:
    profile = ProfileRow("ann", name, 1_700_000_000_000)
    return Gathered(ORIGIN, {ANN: profile}, {ANN: counters}, {POST: likes}, favourited={POST} if liked else set())


def shown(entry: Entry, with_it: Gathered) -> Json:
    found: Json = msgspec.json.decode(status(entry, with_it))
    return found


@pytest.mark.parametrize("text", ["100 % wool", "%d %b %s %%", "\0d\0b", "\\u0000d", '"quoted" \u2028 %', ""])
def test_whatever_people_write_only_counters_are_filled_in(text: str) -> None:
    entry = Entry(POST, ANN, 1_700_000_000_000, PostPublished(author=ANN, caption=personal(text)))
    with_it = gathered(text, UserCounters(11, 12, 13), PostCounters(21, 22), liked=True)
    told = shown(entry, with_it)
    assert told["content_text"] == text
    assert told["account"] == account(ANN, with_it)
    assert told["account"]["display_name"] == text
    assert (told["favourites_count"], told["replies_count"], told["favourited"]) == (21, 22, True)


def test_an_entry_that_is_kept_shows_what_is_so_now() -> None:
    entry = Entry(POST, ANN, 1_700_000_000_000, PostPublished(author=ANN, caption=personal("Fog")))
    for number, name in enumerate(["Ann", "Ann", "Anna", "Ann", *(f"Ann the {n}th" for n in range(9))]):
        with_it = gathered(name, UserCounters(number, 0, 2**40), PostCounters(number, 1), liked=number % 2 == 0)
        told = shown(entry, with_it)
        assert told["account"] == account(ANN, with_it)
        assert (told["favourites_count"], told["favourited"]) == (number, number % 2 == 0)


def test_a_writer_who_is_gone_is_shown_as_nobody() -> None:
    entry = Entry(POST, ANN, 1_700_000_000_000, PostPublished(author=ANN, caption=personal("Fog")))
    told = shown(entry, Gathered(ORIGIN))
    assert told["account"] == account(ANN, Gathered(ORIGIN))
    assert (told["account"]["username"], told["account"]["followers_count"]) == ("deleted", 0)
