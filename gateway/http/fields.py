"""What a request says, read strictly: text that is text, ids that are ids, numbers within their limits.

Whatever cannot be read is an error that names the field; nothing is guessed and nothing is cut short.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from darkroom.events.log import POSITION_MAX
from darkroom.gateway.http.errors import Refused, invalid, malformed

FIELDS_MAX = 200
LIST_MAX = 100
CURSORS = ("max_id", "since_id", "min_id", "min_position")
QUERIES_KEPT, KEPT_BYTES_MAX = 256, 128

_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,20}", re.ASCII)


class Fields:
    """The fields of one body or query: each a list of values, whether it came as JSON or as a form."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._values: dict[str, list[Any]] = {}
        for name, value in pairs:
            values = self._values.setdefault(name.removesuffix("[]"), [])
            values += value if isinstance(value, list) else [value]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, characters_max: int) -> str | None:
        """The field's text with `\\n` as its line end; None where it is left out."""
        value = self._values.get(name, [None])[-1]
        if value is None:
            return None
        if not isinstance(value, str):
            raise malformed(name, "must be a string")
        value = value.replace("\r\n", "\n")
        if len(value) > characters_max:
            raise invalid(name, f"has {len(value)} characters; the limit is {characters_max}")
        return value

    def required(self, name: str, characters_max: int) -> str:
        """As `text`, and there must be some."""
        value = self.text(name, characters_max)
        if not value:
            raise invalid(name, "must be given")
        return value

    def id(self, name: str) -> int | None:
        """The field's id; None where it is left out or empty."""
        ids = self.ids(name)
        if len(ids) > 1:
            raise malformed(name, "must be one id")
        return ids[0] if ids else None

    def ids(self, name: str) -> list[int]:
        """The field's ids, in order, each once."""
        values = [value for value in self._values.get(name, []) if value not in (None, "")]
        if len(values) > LIST_MAX:
            raise malformed(name, f"has {len(values)} ids; the limit is {LIST_MAX}")
        found = [parse_id(str(value)) if isinstance(value, str) or type(value) is int else None for value in values]
        if None in found:
            raise malformed(name, "must be an id in decimal digits")
        return list(dict.fromkeys(value for value in found if value is not None))

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A number; one above `highest` is taken for that, as clients expect of limits and cursors."""
        value = self._values.get(name, [None])[-1]
        if value in (None, ""):
            return default
        if not _WHOLE.fullmatch(str(value)) or isinstance(value, bool) or int(value) < lowest:
            raise malformed(name, f"must be an integer from {lowest}")
        return min(int(value), highest)

    def position(self, name: str) -> int:
        """A position in the log; 0 where it is left out."""
        value = self.whole(name, 0, 0, 1 << 64)
        if value > POSITION_MAX:
            raise malformed(name, f"must be a position, at most {POSITION_MAX}")
        return value


class Query(Fields):
    """The fields behind a path's question mark. Requests share it, so it is not to be changed."""

    def __init__(self, text: bytes) -> None:
        self._pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
        super().__init__(self._pairs)

    @cached_property
    def without_cursors(self) -> str:
        """Encoded again, to ask for another page of the same."""
        return urlencode([(name, value) for name, value in self._pairs if name not in CURSORS])


_kept_query = lru_cache(QUERIES_KEPT)(Query)


def query_of(text: bytes) -> Query:
    """Short ones are kept: most requests have one of a few."""
    return _kept_query(text) if len(text) <= KEPT_BYTES_MAX else Query(text)


def parse_id(text: str) -> int | None:
    """An id in its one canonical form; None for anything else."""
    return int(text) if _ID.fullmatch(text) else None


def json_fields(body: bytes) -> Fields:
    """The fields of a JSON object; Refused 400 for anything else."""
    try:
        # Decoded apart, so that what is not UTF-8 is told from what is not JSON. Lone surrogates are not JSON.
        value = msgspec.json.decode(body.decode("utf-8")) if body else {}
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}", "body") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}", "body") from None
    if not isinstance(value, Mapping):
        raise Refused(400, "the body must be a JSON object", "body")
    if len(value) > FIELDS_MAX:
        raise Refused(400, f"the body has more than {FIELDS_MAX} fields", "body")
    return Fields(value.items())


def form_fields(body: bytes) -> Fields:
    """The fields of a URL-encoded form; Refused 400 where it is not one."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=FIELDS_MAX
        )
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason}", "body") from None
    except ValueError as error:
        raise Refused(400, f"the body is not a form: {error}", "body") from None
    return Fields(pairs)
