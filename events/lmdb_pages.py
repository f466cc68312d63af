"""A look at LMDB's two meta pages before they are trusted.

LMDB opens the meta page with the higher transaction number, so one flipped bit there can silently bring back an older
state: fewer records, no error. The two must be consecutive transactions, each on the page that its parity names.
"""

import struct
import time
from pathlib import Path

from darkroom.events.lmdb_environments import EnvironmentUnusable

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER_BYTES = 16  # of a page, before the meta struct of LMDB 0.9 on 64 bits
_META = struct.Struct("<II8s8sI92sQQ")  # magic, version, address, map size, page size, databases, last page, txn
_TRIES = 20


def check_meta_pages(path: Path) -> None:
    """EnvironmentUnusable when the meta pages contradict each other; nothing when there is no data yet."""
    file = path / "data.mdb"
    if not file.exists() or not file.stat().st_size:
        return
    for last in (False,) * (_TRIES - 1) + (True,):
        reason = _contradiction(file)
        if reason is None:
            return
        if last:
            raise EnvironmentUnusable(f"{file} is damaged: {reason}")
        time.sleep(0.001)  # another process may have been between its two writes


def _contradiction(file: Path) -> str | None:
    with file.open("rb") as stream:
        first = stream.read(_HEADER_BYTES + _META.size)
        if len(first) < _HEADER_BYTES + _META.size:
            return "it is cut short"
        page_bytes = _META.unpack_from(first, _HEADER_BYTES)[4]
        if page_bytes < 512 or page_bytes > 65536 or page_bytes & (page_bytes - 1):
            return "its page size is impossible"
        stream.seek(page_bytes)
        second = stream.read(_HEADER_BYTES + _META.size)
    transactions = []
    for page in (first, second):
        if len(page) < _HEADER_BYTES + _META.size:
            return "it is cut short"
        magic, version, _, _, size, _, _, transaction = _META.unpack_from(page, _HEADER_BYTES)
        if magic != _MAGIC or version != _VERSION or size != page_bytes:
            return "a meta page is not one of this format"
        transactions.append(transaction)
    even, odd = transactions
    if (even, odd) == (0, 0) or (even % 2 == 0 and odd % 2 == 1 and abs(even - odd) == 1):
        return None
    return f"its meta pages are of transactions {even} and {odd}, which cannot follow each other"
