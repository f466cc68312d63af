"""The world after each record, as far as feeds and activities tell of it."""

from collections.abc import Iterable

from oracle import Oracle

from darkroom.events.facts import Recorded


def moments(records: Iterable[Recorded]) -> list["Moment"]:
    """One for each position, from 0."""
    oracle = OracleOfEverything()
    found = [Moment(oracle)]
    for record in records:
        oracle.apply(record)
        found.append(Moment(oracle))
    return found


class OracleOfEverything(Oracle):
    """Tells of what mutes and blocks hide too."""

    def _hidden(self, user: int, actor: int) -> bool:
        return actor == user


class Moment:
    """What the oracle says of feeds and activities at one position."""

    def __init__(self, oracle: OracleOfEverything) -> None:
        users = [user for user in oracle.users if oracle.live(user)]
        self.following = {user: {user, *oracle.following(user)} for user in users}
        self.mutes = {user: {*oracle.mutes(user)} for user in users}
        self.blocks = {user: {*oracle.blocks(user)} for user in users}
        self.blocked_by = {user: {other for other in users if user in self.blocks[other]} for user in users}
        self.posts = {post: author for author in users for post in oracle.timeline(author)}
        self.done = {user: {tuple(row) for row in oracle.did(user)} for user in users}
        self.received = {user: {tuple(row) for row in oracle.received(user)} for user in users}

    def authors(self, user: int) -> set[int]:
        """Whose posts the user's feed holds."""
        return self.following[user] - self.mutes[user]

    def hidden(self, user: int) -> set[int]:
        """Whose deeds the user is not told of."""
        return self.mutes[user] | self.blocks[user] | self.blocked_by[user]
