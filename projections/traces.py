"""What an answer was made from: the ids and rows that a view was asked of, to tell later whether they stand."""

from darkroom.projections.store import Snapshot


class Trace:
    """Of one view. Of `ids` commits tell (see `change_notes`); `rows` are others, which can be compared. Not `whole`
    where something was asked that is neither.
    """

    __slots__ = ("ids", "position", "rows", "whole")

    def __init__(self, position: int) -> None:
        self.position = position
        self.ids: set[int] = set()
        self.rows: dict[tuple[str, bytes], bytes | None] = {}
        self.whole = True

    def has_rows_of(self, snapshot: Snapshot) -> bool:
        """Whether the rows are as they were."""
        return all(snapshot.get(table, key) == row for (table, key), row in self.rows.items())
