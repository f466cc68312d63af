"""The port through which projections are read: what a shard's tables say, by owner and key, never as stored bytes.

A view is opened at a checkpoint and answers at that position *or later*: a store that keeps no snapshots may already
show what came after it, and may already have forgotten what was removed after it. Nothing up to the checkpoint that
still stands is missing. Calls speak in batches, for behind a network each is a round trip. Every method may raise
StoreError.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from darkroom.projections.pages import KEY_MAX
from darkroom.projections.routing import Ids
from darkroom.projections.store import Checkpoint
from darkroom.projections.traces import Trace

Entry = tuple[int, ...]
"""(key, *words) of a packed table."""


class FeedHead(NamedTuple):
    """A feed's newest rows, packed, oldest first; rows answer for nothing up to the horizon."""

    horizon: int = 0
    rows: bytes = b""

    @property
    def version(self) -> int:
        """The newest word: rows are only ever added at that end."""
        return int.from_bytes(self.rows[-8:], "little")


class Deed(NamedTuple):
    """At `position` its owner did what `kind` says (see `activity`) to `object`, which is `owner`'s."""

    position: int
    kind: int
    object: int
    owner: int


class View(Protocol):
    """One shard. `table` is a name of `tables`; keys and bounds are exclusive on both sides."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    def sizes(self, tables: Sequence[str], owners: Sequence[int]) -> list[tuple[int, ...]]:
        """How many entries each owner has in each of the tables, in order."""

    def counted(self, table: str, owners: Sequence[int], key: int) -> list[tuple[int, bool]]:
        """How many entries each owner has, in order, with whether one of them has the key."""

    def find(self, table: str, entries: Sequence[tuple[int, int]]) -> list[tuple[int, ...] | None]:
        """The words of each (owner, key), in order, or None where there is no such entry."""

    def columns(self, table: str, owner: int) -> Ids:
        """Everything the owner has, in key order, as an array of shape (1 + words, entries)."""

    def newest(self, table: str, owner: int, *, below: int = KEY_MAX, above: int = 0, limit: int) -> list[Entry]:
        """At most `limit` entries with above < key < below, from the highest key down."""

    def oldest(self, table: str, owner: int, *, above: int = 0, below: int = KEY_MAX, limit: int) -> list[Entry]:
        """At most `limit` entries with above < key < below, from the lowest key up."""

    def newest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        """Keys above the key of several owners, each with a bound of its own: (owner, below) → (key, owner).

        No more than `limit` an owner are read, so they are complete only above the key that comes with them.
        """

    def oldest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        """As `newest_among`, from the lowest key up: complete up to the key that comes with them."""

    def row(self, table: str, key: bytes) -> bytes | None:
        """The row's value, or None."""

    def rows(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, in order, or None."""

    def recall(self, kind: str, ids: Sequence[int]) -> list[Any]:
        """What an earlier reader kept of each id, in order, as far as it still stands; None where nothing is known.

        A view that cannot tell what changed knows of nothing.
        """

    def keep(self, kind: str, values: Iterable[tuple[int, Any]]) -> None:
        """For later readers, of users and posts: what this view says of each, and nothing but this view."""

    def note_in(self, trace: Trace | None) -> None:
        """Note from now on, if anywhere, what the view is asked; a trace is not `whole` once that can neither be told
        of nor compared.
        """

    def stands(self, trace: Trace) -> bool:
        """Whether this view is known to answer as the one did of which the trace is; the trace then is of this one."""

    def live(self, users: Sequence[int]) -> list[bool]:
        """Which of the users are registered and not deleted, as far as this shard knows."""

    def celebrities(self, users: Ids) -> Ids:
        """When each of the users stopped being a celebrity here: 0 for one who never was, INFINITY for one who is."""

    def deeds(self, user: int, *, below: int, limit: int) -> list[Deed]:
        """At most `limit` deeds of the user below the position, newest first; candidates, as its shard knows them."""

    def feed_head(self, user: int) -> FeedHead:
        """The head page of the user's feed."""

    def sealed_below(self, user: int, word: int) -> Iterator[bytes]:
        """The feed's sealed pages whose first word is below `word`, the newest first, fetched as they are asked for."""

    def sealed_from(self, user: int, word: int) -> Iterator[bytes]:
        """The feed's sealed pages from the one that may hold `word` on, the oldest first."""

    def expired(self) -> int:
        """The newest id that has outlived the time to live of feeds: rows answer for nothing up to it."""


class KeepsNothing:
    """Of views that cannot tell what changed: what they say is not kept for later readers."""

    def recall(self, kind: str, ids: Sequence[int]) -> list[Any]:  # noqa: ARG002
        return [None] * len(ids)

    def keep(self, kind: str, values: Iterable[tuple[int, Any]]) -> None:
        """Nothing is."""

    def note_in(self, trace: Trace | None) -> None:
        if trace is not None:
            trace.whole = False

    def stands(self, trace: Trace) -> bool:  # noqa: ARG002
        return False


class ShardViews(Protocol):
    """Where views of one shard come from."""

    def view(self) -> AbstractContextManager[View]:
        """The shard as it is now. StoreError where it cannot be read."""

    def checkpoint(self) -> Checkpoint:
        """The present checkpoint, cheaply."""
