"""The whole world in plain dictionaries, folded one record at a time: the oracle against which everything is proved.

Written to be obviously right, not fast, and sharing nothing with the projections but the facts themselves.
"""

import re
from collections.abc import Collection, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    Personal,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    ProfileChanged,
    Recorded,
    RecordParked,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserMuted,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)


class Did(NamedTuple):
    """Something standing that a user did; `other` is the post's author, or the followee."""

    position: int
    kind: str
    object: int
    other: int


class Received(NamedTuple):
    """Something standing that concerns a user; `object` is the post it happened at, or for a follow the user."""

    position: int
    kind: str
    actor: int
    object: int


class Profile(NamedTuple):
    display_name: str
    bio: str | None
    avatar: str | None


@dataclass
class User:
    """A live user. `following`, `followers` and `likes` hold the position of the record that made them stand."""

    name: str | None
    display_name: str
    bio: str | None = None
    avatar: str | None = None
    following: dict[int, int] = field(default_factory=dict)
    followers: dict[int, int] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)
    mutes: set[int] = field(default_factory=set)
    posts: set[int] = field(default_factory=set)
    likes: dict[int, int] = field(default_factory=dict)
    comments: set[int] = field(default_factory=set)
    mentioned_in: set[int] = field(default_factory=set)


@dataclass
class Post:
    """A live post; `comments` are all it ever had, in the order in which they came."""

    author: int
    likes: dict[int, int] = field(default_factory=dict)
    comments: list[int] = field(default_factory=list)


@dataclass
class Comment:
    """A comment that took effect, live or not."""

    user: int
    post: int
    in_reply_to: int | None
    live: bool = True


def folded_name(name: str) -> str | None:
    """The name as it is compared, or None where it cannot be a name."""
    if re.fullmatch(r"[A-Za-z0-9_]{1,30}", name) is None or re.fullmatch(r"[0-9]+", name) is not None:
        return None
    return name.lower()


class Oracle:
    """Folds records in log order. `parked` are positions that some RecordParked names: void, wherever it stands."""

    def __init__(self, parked: Collection[int] = ()) -> None:
        self.position = 0
        self.users: dict[int, User] = {}
        self.posts: dict[int, Post] = {}
        self.comments_ever: dict[int, Comment] = {}
        self.names: dict[str, int] = {}
        self.post_keys: dict[tuple[int, str], int] = {}
        self.comment_keys: dict[tuple[int, int, str], int] = {}
        self._parked = frozenset(parked)

    def apply(self, recorded: Recorded) -> None:
        assert recorded.position > self.position, "records come in log order"
        self.position = recorded.position
        if recorded.position not in self._parked:
            self._fold(recorded.position, recorded.event)

    def world(self) -> tuple[Any, ...]:
        """A copy of everything that the records so far have made; equal before and after a void record."""
        return deepcopy(
            (self.users, self.posts, self.comments_ever, self.names, self.post_keys, self.comment_keys),
        )

    # The fold.

    def _fold(self, position: int, event: Event) -> None:
        match event:
            case UserRegistered():
                self._registered(position, event)
            case ProfileChanged():
                self._profile_changed(event)
            case UserDeleted():
                self._user_deleted(event.user)
            case PostPublished():
                self._post_published(position, event)
            case PostDeleted():
                self._post_deleted(event)
            case PostLiked():
                self._liked(position, event)
            case PostUnliked():
                self._unliked(event)
            case CommentAdded():
                self._comment_added(position, event)
            case CommentDeleted():
                self._comment_deleted(event)
            case UserFollowed():
                self._followed(position, event.follower, event.followee)
            case UserUnfollowed():
                self._unfollowed(event.follower, event.followee)
            case UserBlocked():
                self._blocked(event.user, event.target)
            case UserUnblocked():
                self._unblocked(event.user, event.target)
            case UserMuted():
                self._muted(event.user, event.target)
            case UserUnmuted():
                self._unmuted(event.user, event.target)
            case FeedViewed() | RecordParked():
                pass

    def _registered(self, position: int, event: UserRegistered) -> None:
        written = _text(event.username)
        folded = folded_name(written)
        first = folded is not None and folded not in self.names
        if folded is not None and first:
            self.names[folded] = position
        self.users[position] = User(name=written if first else None, display_name=_text(event.display_name))

    def _profile_changed(self, event: ProfileChanged) -> None:
        if event.user not in self.users:
            return
        user = self.users[event.user]
        if event.display_name is not None:
            user.display_name = _text(event.display_name)
        if event.bio is not None:
            user.bio = _text(event.bio)
        if event.avatar is not None:
            user.avatar = event.avatar

    def _user_deleted(self, user_id: int) -> None:
        if user_id not in self.users:
            return
        user = self.users[user_id]
        for post in list(user.posts):
            self._remove_post(post)
        for post in list(user.likes):
            self._remove_like(user_id, post)
        for comment in list(user.comments):
            self._remove_comment(comment)
        for followee in list(user.following):
            self._remove_follow(user_id, followee)
        for follower in list(user.followers):
            self._remove_follow(follower, user_id)
        for other in self.users.values():
            other.blocks.discard(user_id)
            other.mutes.discard(user_id)
        del self.users[user_id]

    def _post_published(self, position: int, event: PostPublished) -> None:
        if event.author not in self.users:
            return
        if event.key is not None:
            if (event.author, event.key) in self.post_keys:
                return
            self.post_keys[event.author, event.key] = position
        self.posts[position] = Post(event.author)
        self.users[event.author].posts.add(position)
        self._mention(position, event.mentions)

    def _post_deleted(self, event: PostDeleted) -> None:
        if self._post_stands(event.post, event.author):
            self._remove_post(event.post)

    def _liked(self, position: int, event: PostLiked) -> None:
        if event.user not in self.users or not self._post_stands(event.post, event.author):
            return
        if self._block_between(event.user, event.author) or event.user in self.posts[event.post].likes:
            return
        self.posts[event.post].likes[event.user] = position
        self.users[event.user].likes[event.post] = position

    def _unliked(self, event: PostUnliked) -> None:
        if event.user not in self.users or not self._post_stands(event.post, event.author):
            return
        if event.user in self.posts[event.post].likes:
            self._remove_like(event.user, event.post)

    def _comment_added(self, position: int, event: CommentAdded) -> None:
        if event.user not in self.users or not self._post_stands(event.post, event.author):
            return
        if self._block_between(event.user, event.author) or not self._reply_is_right(event):
            return
        if event.key is not None:
            if (event.user, event.post, event.key) in self.comment_keys:
                return
            self.comment_keys[event.user, event.post, event.key] = position
        self.comments_ever[position] = Comment(event.user, event.post, event.in_reply_to)
        self.posts[event.post].comments.append(position)
        self.users[event.user].comments.add(position)
        self._mention(position, event.mentions)
        if event.in_reply_to_user is not None:
            self._mention(position, [event.in_reply_to_user])

    def _reply_is_right(self, event: CommentAdded) -> bool:
        if event.in_reply_to is None and event.in_reply_to_user is None:
            return True
        if event.in_reply_to is None or event.in_reply_to not in self.comments_ever:
            return False
        replied_to = self.comments_ever[event.in_reply_to]
        return replied_to.post == event.post and replied_to.user == event.in_reply_to_user

    def _comment_deleted(self, event: CommentDeleted) -> None:
        if event.user not in self.users or not self._post_stands(event.post, event.author):
            return
        comment = self.comments_ever.get(event.comment)
        if comment is None or comment.post != event.post or not comment.live:
            return
        if event.user in (comment.user, event.author):
            self._remove_comment(event.comment)

    def _followed(self, position: int, follower: int, followee: int) -> None:
        if not self._two_live_users(follower, followee) or self._block_between(follower, followee):
            return
        if followee not in self.users[follower].following:
            self.users[follower].following[followee] = position
            self.users[followee].followers[follower] = position

    def _unfollowed(self, follower: int, followee: int) -> None:
        if self._two_live_users(follower, followee) and followee in self.users[follower].following:
            self._remove_follow(follower, followee)

    def _blocked(self, user: int, target: int) -> None:
        if not self._two_live_users(user, target):
            return
        self.users[user].blocks.add(target)
        self._remove_follow(user, target)
        self._remove_follow(target, user)

    def _unblocked(self, user: int, target: int) -> None:
        if self._two_live_users(user, target):
            self.users[user].blocks.discard(target)

    def _muted(self, user: int, target: int) -> None:
        if self._two_live_users(user, target):
            self.users[user].mutes.add(target)

    def _unmuted(self, user: int, target: int) -> None:
        if self._two_live_users(user, target):
            self.users[user].mutes.discard(target)

    # What the rules ask.

    def _two_live_users(self, one: int, other: int) -> bool:
        return one != other and one in self.users and other in self.users

    def _block_between(self, one: int, other: int) -> bool:
        return other in self.users[one].blocks or one in self.users[other].blocks

    def _post_stands(self, post: int, author: int) -> bool:
        """Whether the post is live and the named author's; then its author is live too."""
        return post in self.posts and self.posts[post].author == author

    # What the rules do.

    def _mention(self, position: int, mentioned: Iterable[int]) -> None:
        for user in mentioned:
            if user in self.users:
                self.users[user].mentioned_in.add(position)

    def _remove_post(self, post_id: int) -> None:
        post = self.posts[post_id]
        for user in list(post.likes):
            self._remove_like(user, post_id)
        for comment in post.comments:
            if self.comments_ever[comment].live:
                self._remove_comment(comment)
        self.users[post.author].posts.remove(post_id)
        del self.posts[post_id]

    def _remove_like(self, user: int, post: int) -> None:
        del self.users[user].likes[post]
        del self.posts[post].likes[user]

    def _remove_comment(self, comment_id: int) -> None:
        comment = self.comments_ever[comment_id]
        comment.live = False
        self.users[comment.user].comments.remove(comment_id)

    def _remove_follow(self, follower: int, followee: int) -> None:
        self.users[follower].following.pop(followee, None)
        self.users[followee].followers.pop(follower, None)

    # Questions about users. Who is unknown or deleted has nothing.

    def live(self, user: int) -> bool:
        return user in self.users

    def username(self, user: int) -> str | None:
        """The name as it was written, if the user is live and was its first claimant."""
        return self.users[user].name if user in self.users else None

    def user_named(self, name: str) -> int | None:
        """The name's first claimant, live or deleted."""
        folded = folded_name(name)
        return self.names.get(folded) if folded is not None else None

    def profile(self, user: int) -> Profile | None:
        """What the user shows; bio and avatar are None until they are first set."""
        found = self.users.get(user)
        return Profile(found.display_name, found.bio, found.avatar) if found else None

    def followers(self, user: int) -> list[int]:
        return sorted(self.users[user].followers) if user in self.users else []

    def following(self, user: int) -> list[int]:
        return sorted(self.users[user].following) if user in self.users else []

    def blocks(self, user: int) -> list[int]:
        return sorted(self.users[user].blocks) if user in self.users else []

    def mutes(self, user: int) -> list[int]:
        return sorted(self.users[user].mutes) if user in self.users else []

    def relationship(self, user: int, other: int) -> dict[str, bool]:
        """How `user` stands to `other`; all False where either is not live."""
        following, blocking, muting = self.following(user), self.blocks(user), self.mutes(user)
        return {
            "following": other in following,
            "followed_by": other in self.followers(user),
            "blocking": other in blocking,
            "blocked_by": user in self.blocks(other),
            "muting": other in muting,
        }

    def counters_user(self, user: int) -> tuple[int, int, int]:
        """Followers, following, posts."""
        return len(self.followers(user)), len(self.following(user)), len(self.timeline(user))

    # Questions about posts. One that is unknown or deleted has nothing.

    def live_post(self, post: int) -> bool:
        return post in self.posts

    def live_comment(self, comment: int) -> bool:
        return comment in self.comments_ever and self.comments_ever[comment].live

    def likers(self, post: int) -> list[int]:
        return sorted(self.posts[post].likes) if post in self.posts else []

    def comments(self, post: int) -> list[int]:
        """The live comments, oldest first."""
        return [comment for comment in self.thread(post) if self.comments_ever[comment].live]

    def thread(self, post: int) -> list[int]:
        """The live comments and the tombstones that some live comment descends from, oldest first."""
        shown: set[int] = set()
        for comment in self.posts[post].comments if post in self.posts else ():
            if self.comments_ever[comment].live:
                shown |= self._with_ancestors(comment, shown)
        return sorted(shown)

    def _with_ancestors(self, comment: int, known: set[int]) -> set[int]:
        found: set[int] = set()
        at: int | None = comment
        while at is not None and at not in known:
            found.add(at)
            at = self.comments_ever[at].in_reply_to
        return found

    def counters_post(self, post: int) -> tuple[int, int]:
        """Likes, comments."""
        return len(self.likers(post)), len(self.comments(post))

    def commented(self, author: int, commenter: int) -> list[int]:
        """The author's posts that the commenter has commented on, newest first."""
        return [
            post
            for post in self.timeline(author)
            if any(self.comments_ever[comment].user == commenter for comment in self.comments(post))
        ]

    def post_by_key(self, author: int, key: str) -> int | None:
        """The first post that took the key, live or deleted, whoever is live."""
        return self.post_keys.get((author, key))

    def comment_by_key(self, user: int, post: int, key: str) -> int | None:
        """The first comment that took the key, live or deleted, whoever is live."""
        return self.comment_keys.get((user, post, key))

    # Feeds, newest first.

    def timeline(self, author: int) -> list[int]:
        return sorted(self.users[author].posts, reverse=True) if author in self.users else []

    def home_feed(self, user: int) -> list[int]:
        if user not in self.users:
            return []
        authors = {user, *self.users[user].following} - self.users[user].mutes
        return sorted((post for author in authors for post in self.users[author].posts), reverse=True)

    def did(self, user: int) -> list[Did]:
        """What the user did that stands: posts, likes, comments, follows."""
        if user not in self.users:
            return []
        rows = [Did(post, "post", post, user) for post in self.users[user].posts]
        for post, position in self.users[user].likes.items():
            rows.append(Did(position, "like", post, self.posts[post].author))
        for comment in self.users[user].comments:
            post = self.comments_ever[comment].post
            rows.append(Did(comment, "comment", post, self.posts[post].author))
        for followee, position in self.users[user].following.items():
            rows.append(Did(position, "follow", followee, followee))
        return sorted(rows, reverse=True)

    def received(self, user: int) -> list[Received]:
        """What others did that stands and concerns the user: likes, comments, follows, mentions."""
        if user not in self.users:
            return []
        rows = self._received_on_posts(user) + self._received_mentions(user)
        for follower, position in self.users[user].followers.items():
            rows.append(Received(position, "follow", follower, user))
        return sorted((row for row in rows if not self._hidden(user, row.actor)), reverse=True)

    def _received_on_posts(self, user: int) -> list[Received]:
        rows = []
        for post in self.users[user].posts:
            for liker, position in self.posts[post].likes.items():
                rows.append(Received(position, "like", liker, post))
            for comment in self.comments(post):
                rows.append(Received(comment, "comment", self.comments_ever[comment].user, post))
        return rows

    def _received_mentions(self, user: int) -> list[Received]:
        rows = []
        for position in self.users[user].mentioned_in:
            if position in self.posts:
                rows.append(Received(position, "mention", self.posts[position].author, position))
            elif self.live_comment(position):
                comment = self.comments_ever[position]
                if self.posts[comment.post].author != user:
                    rows.append(Received(position, "mention", comment.user, comment.post))
        return rows

    def _hidden(self, user: int, actor: int) -> bool:
        return actor == user or self._block_between(user, actor) or actor in self.users[user].mutes


def _text(written: Personal) -> str:
    """The text, or none where the bytes are not UTF-8: a record is legal whatever it holds."""
    try:
        return written.text
    except UnicodeDecodeError:
        return ""
