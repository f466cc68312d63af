"""Home feed pages in process, as the gateway reads them, and how long they take."""

import time
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from benchmarks.measure import percentile
from darkroom.gateway.http.hydration import Statuses, bytes_of, statuses
from darkroom.projections import home_feed
from darkroom.projections.feed_cache import FeedCache, NoFeedCache
from darkroom.projections.home_feed import FeedEntry
from darkroom.projections.kept_answers import KeptAnswers
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK
from darkroom.projections.store import ShardStore
from darkroom.projections.store_views import StoreViews

ORIGIN = "http://darkroom.test"
LIMIT = 20


class Pages:
    """Reads of shards whose stores are at hand, one page a reading, as one request would.

    Whoever `forgets` keeps nothing of one page for the next.
    """

    def __init__(self, stores: Sequence[ShardStore], cache: FeedCache | None = None, *, forgets: bool = False) -> None:
        self._stores = stores
        self._views = [StoreViews(store) for store in stores]
        self._cache = cache or NoFeedCache()
        self._holders: dict[str, int] = {}
        self._answers = KeptAnswers()
        self._forgets = forgets
        self.made_anew = 0

    def _reading(self) -> Reading:
        if self._forgets:
            self._views = [StoreViews(store) for store in self._stores]
            self._answers = KeptAnswers()
        return Reading(self._views, holders=self._holders, answers=self._answers)

    def entries(self, user: int, below: int = ID_MASK + 1) -> list[FeedEntry]:
        """A page's posts and authors."""
        with self._reading() as reading:
            return home_feed.page(reading, user, below=below, limit=LIMIT, cache=self._cache)

    def made(self, user: int) -> list[Raw]:
        """A page with its posts, authors and counters, each post as it is sent, put together anew."""
        with self._reading() as reading:
            return [status for _, status in self._made(reading, user)]

    def _made(self, reading: Reading, user: int) -> Statuses:
        self.made_anew += 1
        page = home_feed.page(reading, user, limit=LIMIT, cache=self._cache)
        wanted = [(entry.post, entry.author, entry.row) for entry in page]
        return statuses(reading, user, ORIGIN, wanted)

    def shown(self, user: int) -> list[Raw]:
        """The same, or the page that was made before if all of it stands."""
        with self._reading() as reading:
            page = reading.answer(user, LIMIT, lambda: self._made(reading, user), bytes_of)
            return [status for _, status in page]

    def encoded(self, user: int) -> bytes:
        """A page as it is sent."""
        return msgspec.json.encode(self.shown(user))

    def times_us(self, users: Sequence[int], kind: str = "entries") -> tuple[float, float]:
        """(median, 99th percentile) of pages of that kind."""
        read, times = getattr(self, kind), []
        for user in users:
            began = time.perf_counter()
            read(user)
            times.append(1e6 * (time.perf_counter() - began))
        return percentile(times, 50), percentile(times, 99)
