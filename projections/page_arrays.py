"""One packed page in memory: an array as the page is stored, less the header, so reading and writing one are copies.

The keys, ascending, then one column a word. A value is True where there are no words, the word where there is one, and
else a tuple of them.
"""

import sys
from array import array
from bisect import bisect_left
from typing import Any, TypeAlias

assert sys.byteorder == "little", "pages are little-endian and copied as they are"

Page: TypeAlias = "array[int]"


def words_of(value: Any) -> tuple[int, ...]:
    if value is True:
        return ()
    return value if isinstance(value, tuple) else (value,)


def value_at(page: Page, at: int, entries: int) -> Any:
    words = page[entries + at :: entries]
    if not words:
        return True
    return words[0] if len(words) == 1 else tuple(words)


def insert(page: Page, entries: int, key: int, value: Any) -> bool:
    """Make an entry in a page of so many, where there is none; whether there was none."""
    at = bisect_left(page, key, 0, entries)
    if at < entries and page[at] == key:
        return False
    if isinstance(value, tuple):
        for column in range(len(value), 0, -1):
            page.insert(column * entries + at, value[column - 1])
    elif value is not True:
        page.insert(entries + at, value)
    page.insert(at, key)
    return True


def extend(page: Page, width: int, entries: list[int]) -> None:
    """Put entries, each a key and its words, behind those that there are. They are in key order and above them."""
    before = len(page) // width
    for column in range(width, 0, -1):
        page[column * before : column * before] = array("Q", entries[column - 1 :: width])


def cut(page: Page, start: int, stop: int, entries: int) -> Page:
    """The entries from `start` to `stop` as a page."""
    stop = min(stop, entries)
    part = array("Q")
    for column in range(0, len(page), entries):
        part += page[column + start : column + stop]
    return part


def joined(pages: list[Page], width: int) -> Page:
    """Pages that follow each other as one."""
    whole = array("Q")
    for column in range(width):
        for page in pages:
            entries = len(page) // width
            whole += page[column * entries : (column + 1) * entries]
    return whole
