"""A look at LMDB's two meta pages before they are trusted.

LMDB opens the meta page with the higher transaction number, so one flipped bit there can silently bring back an older
state: fewer records, no error. The two must be consecutive transactions, each on the page that its parity names, the
newer must not take back what the older had, and both must agree with the last commit's witness, which lies elsewhere.
"""

import mmap
import os
import struct
import time
import zlib
from pathlib import Path
from typing import NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER_BYTES = 16  # of a page, before the meta struct of LMDB 0.9 on 64 bits
_META = struct.Struct("<II16xI76xQQQQ")
_CHANGING_BYTES = 16  # where in the struct begins what every commit writes
_NO_PAGE = 2**64 - 1  # the root of an empty tree
_PAGE_BYTES_MAX = 65536
_METAS_BYTES_MAX = _PAGE_BYTES_MAX + _HEADER_BYTES + _META.size
_TRIES = 20


class _Meta(NamedTuple):
    checksum: int
    magic: int
    version: int
    page_bytes: int
    records: int
    root: int
    last_page: int
    transaction: int


def witness(metas: mmap.mmap) -> str:
    """What the newest of the two meta pages is: its transaction and a checksum, in at most 29 characters."""
    pages = _read_metas(metas)
    if isinstance(pages, str):
        return ""
    newest = max(pages, key=lambda page: page.transaction)
    return f"{newest.transaction} {newest.checksum:08x}"


def contradiction(data_file: Path, last_witness: str, *, append_only: bool) -> str | None:
    """What is wrong with the meta pages, or None; also where there is no data yet.

    `last_witness` may be behind the pages, as after a power cut; where it makes no sense, it says nothing.
    """
    if not data_file.exists() or not data_file.stat().st_size:
        return "it is empty, but was not" if _committed(last_witness) else None
    reason, before = None, None
    for _ in range(_TRIES):
        with data_file.open("rb") as stream:
            pages = _read_metas(stream.read(_METAS_BYTES_MAX))
            file_bytes = os.fstat(stream.fileno()).st_size
        reason = pages if isinstance(pages, str) else _contradiction(*pages, file_bytes, last_witness, append_only)
        if reason is None or pages == before:
            break
        # Another process may have committed between the reading of the one page and of the other.
        before = pages
        time.sleep(0.001)
    return reason


def _contradiction(even: _Meta, odd: _Meta, file_bytes: int, last_witness: str, append_only: bool) -> str | None:
    older, newest = (even, odd) if even.transaction < odd.transaction else (odd, even)
    known = _committed(last_witness)
    committed, checksum = known or (0, newest.checksum)
    if newest.transaction < committed:
        return (
            f"transaction {committed} was committed, but its newest is {newest.transaction}; "
            "if it was restored from a copy, remove writer.lock"
        )
    if newest.transaction == committed and newest.checksum != checksum:
        return "its newest meta page is not what was written"
    if not _in_order(even, odd) and not (newest.transaction == 0 and known):
        return f"its meta pages are of transactions {even.transaction} and {odd.transaction}, out of their order"
    if newest.last_page < older.last_page:
        return "its newest meta page has fewer pages than the one before"
    if append_only and file_bytes < (newest.last_page + 1) * newest.page_bytes:
        return "it is cut short"
    # A meta page that could not be written gets its old number back but keeps the rest (`mdb_env_write_meta`). The
    # witness has then stayed behind too; without it this may be the newest page, with a damaged number.
    if append_only and older.records and newest.records <= older.records and newest.transaction != committed:
        return "its newest meta page has no more records than the one before"
    return None


def _in_order(even: _Meta, odd: _Meta) -> bool:
    if even.transaction == odd.transaction == 0:
        return even.root == odd.root == _NO_PAGE
    return even.transaction % 2 == 0 and odd.transaction % 2 == 1 and abs(even.transaction - odd.transaction) == 1


def _committed(last_witness: str) -> tuple[int, int] | None:
    try:
        transaction, checksum = last_witness.split(" ")
        return int(transaction), int(checksum, 16)
    except ValueError:
        return None


def _read_metas(start: bytes | mmap.mmap) -> tuple[_Meta, _Meta] | str:
    first = _read_meta(start, 0)
    if isinstance(first, str):
        return first
    if first.page_bytes < 512 or first.page_bytes > _PAGE_BYTES_MAX or first.page_bytes & (first.page_bytes - 1):
        return "its page size is impossible"
    second = _read_meta(start, first.page_bytes)
    if isinstance(second, str):
        return second
    if second.page_bytes != first.page_bytes:
        return "its meta pages differ in page size"
    return first, second


def _read_meta(start: bytes | mmap.mmap, offset: int) -> _Meta | str:
    struct_bytes = start[offset + _HEADER_BYTES : offset + _HEADER_BYTES + _META.size]
    if len(struct_bytes) < _META.size:
        return "it is cut short"
    meta = _Meta(zlib.crc32(struct_bytes[_CHANGING_BYTES:]), *_META.unpack(struct_bytes))
    if meta.magic != _MAGIC or meta.version != _VERSION:
        return "a meta page is not one of this format"
    return meta
