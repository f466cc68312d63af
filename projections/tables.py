"""The tables of a shard: what each is keyed by and holds. Every name stands here once.

A *packed* table maps an owner to a sorted map from 64-bit key to a fixed number of 64-bit words, kept in pages (see
`pages`). "Here" means in the shards of those whom the table concerns.
"""

# Packed tables: owner → key → words.
FOLLOWING = "following"  # follower → followee → position; in the shards of both
FOLLOWERS = "followers"  # followee → follower; in the shards of both
BLOCKS = "blocks"  # blocker → blocked; in the shards of both
MUTES = "mutes"  # muter → muted; in the muter's shard
TIMELINES = "timelines"  # author → live post
LIKERS = "likers"  # post → liker → position; in the author's shard
LIKED = "liked"  # liker → claim(post, author) → post, author, position; in the shards of both
THREADS = "threads"  # post → live comment → writer; in the author's shard
TOMBSTONES = "tombstones"  # post → deleted comment → writer; in the author's shard
COMMENTED = "commented"  # writer → comment → post, author; in the shards of both
RECEIVED = "received"  # user → position → actor, post, kind: likes, comments and follows done to the user
MENTIONS = "mentions"  # user → position → actor, post, author: candidates, for the post may be another shard's

WORDS = {
    FOLLOWING: 1,
    FOLLOWERS: 0,
    BLOCKS: 0,
    MUTES: 0,
    TIMELINES: 0,
    LIKERS: 1,
    LIKED: 3,
    THREADS: 1,
    TOMBSTONES: 1,
    COMMENTED: 2,
    RECEIVED: 3,
    MENTIONS: 3,
}

# Bitmaps: 4,096 ids a row.
LIVE = "live"  # users who are registered and not deleted; in every shard
BLOCKERS = "blockers"  # users who ever blocked anybody; in the shards of those

# Rows.
POSTS = "posts"  # post → author, time, event; in the author's shard
COMMENTS = "comments"  # comment → see `engagement.CommentRow`; in the post's author's shard
PROFILES = "profiles"  # user → see `people.ProfileRow`; in the user's shard
NAMES = "names"  # case-folded name → the first claimant; in the name's shard
CLAIMS = "claims"  # sign-up claim → user; in the claim's shard
KEYS = "keys"  # idempotency key → post or comment; in the author's shard
CELEBRITIES = "celebrities"  # author → since, in every shard that decided it; 0 → position of the table's last change
FEED_HEADS = "feed heads"  # user → the newest feed rows (see `feed_rows`)
FEEDS = "feeds"  # user and first row → a sealed page of feed rows
META = "meta"  # position, identity, days

# What a user may have done.
POST, LIKE, COMMENT, FOLLOW = 0, 1, 2, 3

ROWS = (POSTS, COMMENTS, PROFILES, NAMES, CLAIMS, KEYS, CELEBRITIES)
TABLES = (*WORDS, LIVE, BLOCKERS, *ROWS, FEED_HEADS, FEEDS, META)
