"""Whose feeds get an author's posts, as decided since the author's audience last changed.

Deciding again decides alike, so this holds from batch to batch and may be forgotten at any moment: most of what a post
costs a shard beside its rows was gathering the same audience again. Where not all can be kept, most of them still are.
"""

from darkroom.projections.routing import Ids

IDS_KEPT_MAX = 4_000_000  # of 8 bytes each
AUTHOR_IDS = 30
"""An author's objects weigh as much as so many ids."""


class Recipients:
    """By author, within a limit: beyond it the ones that were decided first are forgotten."""

    def __init__(self) -> None:
        self._known: dict[int, Ids] = {}
        self._kept = 0

    def get(self, author: int) -> Ids | None:
        """What was kept; None where it has to be decided."""
        return self._known.get(author)

    def keep(self, author: int, recipients: Ids) -> Ids:
        """What was decided, from now on, of an author of whom nothing is kept."""
        self._known[author] = recipients
        self._kept += len(recipients) + AUTHOR_IDS
        if self._kept > IDS_KEPT_MAX:
            self._make_room()
        return recipients

    def _make_room(self) -> None:
        """Forget an eighth at once: the first of a dictionary is looked for behind all that was dropped before."""
        for author in list(self._known)[:-1]:  # not the one at hand, however many its recipients
            if self._kept <= IDS_KEPT_MAX * 7 // 8:
                break
            self.forget(author)

    def forget(self, author: int) -> None:
        """The author's audience has changed."""
        recipients = self._known.pop(author, None)
        if recipients is not None:
            self._kept -= len(recipients) + AUTHOR_IDS

    def clear(self) -> None:
        """By what was decided has changed."""
        self._known.clear()
        self._kept = 0
