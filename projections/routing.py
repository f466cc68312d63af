"""Which shard serves whom: a 16-bit route hashed from an id, modulo the number of shards.

A route fits beside a 48-bit position in one 64-bit word, so a feed row can say which shard holds its post.
"""

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint64]

SHARDS_MAX = 1024
ROUTE_BITS = 16
ID_MASK = (1 << 48) - 1

_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: Fibonacci hashing (Knuth, TAOCP 6.4)
_WORD = (1 << 64) - 1


def route(user: int) -> int:
    """A user's 16-bit route."""
    return (user * _MULTIPLIER & _WORD) >> 48


def routes(users: Ids) -> Ids:
    """`route` of many users at once."""
    return (users * np.uint64(_MULTIPLIER)) >> np.uint64(48)


def shard_of(user: int, shards: int) -> int:
    """The shard that serves `user`."""
    return ((user * _MULTIPLIER & _WORD) >> 48) % shards


def serving(shard: int, shards: int) -> Callable[[int], bool]:
    """Whether the shard serves a user, as a function: it is asked of every record, so it calls nothing."""
    if shards == 1:
        return lambda _: True
    return lambda user: ((user * _MULTIPLIER & _WORD) >> 48) % shards == shard


def shard_of_text(text: str, shards: int) -> int:
    """The shard that keeps a name or a claim."""
    return zlib.crc32(text.encode()) % shards


def routed(post: int, author: int) -> int:
    """A post's id and its author's route in one word; words order as posts do."""
    return post << ROUTE_BITS | route(author)


def claim(post: int, author: int) -> int:
    """One word for a post as its alleged author's, so that two claims about one post keep apart.

    Multiples of the golden ratio are as far apart as can be (the three-distance theorem), so no two pairs of ids below
    2^31 have the same word; above that two of one user's likes would have to meet by a chance of one in 2^64.
    """
    return post * _MULTIPLIER + author & _WORD
