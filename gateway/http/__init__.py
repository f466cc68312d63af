"""The HTTP gateway: Mastodon's client API for what exists, and Darkroom's own routes beside it."""
