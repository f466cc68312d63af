"""A shard's store on LMDB: one environment a shard, one named database a table.

The writer is the shard's actor; gateways read from their own processes through LMDB's snapshots.
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import errno
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from darkroom.events.lmdb_environments import (
    NO_ROOM,
    EnvironmentUnusable,
    Read,
    WriteLockTimeout,
    close_environment,
    open_environment,
)
from darkroom.projections.store import (
    Changes,
    Checkpoint,
    Identity,
    SnapshotExpired,
    StoreBusy,
    StoreError,
    StoreFull,
    Superseded,
)
from darkroom.projections.tables import META, TABLES

FORMAT = 2  # since feeds' heads lie apart
SNAPSHOT_S_MAX = 30.0

_CHECKPOINT, _IDENTITY = b"checkpoint", b"identity"
_decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_decode_identity = msgspec.msgpack.Decoder(Identity).decode


class OtherFormat(EnvironmentUnusable):
    """The store was made by an older or a newer version; the message says what to do."""


class LmdbSnapshot:
    """One read transaction. It expires, because pages that it can see are not freed."""

    __slots__ = ("_checkpoint", "_cursors", "_databases", "_deadline", "_transaction")

    def __init__(self, transaction: lmdb.Transaction[bytes], databases: dict[str, Any]) -> None:
        self._transaction = transaction
        self._databases = databases
        self._cursors: dict[str, lmdb.Cursor[bytes]] = {}
        self._deadline = time.monotonic() + SNAPSHOT_S_MAX
        self._checkpoint = _checkpoint(transaction, databases)

    @property
    def checkpoint(self) -> Checkpoint:
        return self._checkpoint

    def get(self, table: str, key: bytes) -> bytes | None:
        self._check_deadline()
        return self._transaction.get(key, db=self._databases[table])

    def get_many(self, table: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        self._check_deadline()
        get, database = self._transaction.get, self._databases[table]  # getmulti takes up to twice as long
        return {key: value for key in keys if (value := get(key, None, database)) is not None}

    def get_each(self, table: str, keys: Iterable[bytes]) -> list[bytes | None]:
        self._check_deadline()
        get, database = self._transaction.get, self._databases[table]
        return [get(key, None, database) for key in keys]

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        cursor = self._cursor(table)
        found: list[tuple[bytes, bytes]] = []
        if reverse:
            if not (cursor.prev() if cursor.set_range(stop) else cursor.last()):
                return found
            for pair in cursor.iterprev():
                if pair[0] < start or len(found) >= limit:
                    break
                found.append(pair)
        elif cursor.set_range(start):
            for pair in cursor.iternext():
                if pair[0] >= stop or len(found) >= limit:
                    break
                found.append(pair)
        return found

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise SnapshotExpired(f"a snapshot was held for more than {SNAPSHOT_S_MAX:g} s")

    def _cursor(self, table: str) -> lmdb.Cursor[bytes]:
        self._check_deadline()
        cursor = self._cursors.get(table)
        if cursor is None:
            cursor = self._cursors[table] = self._transaction.cursor(db=self._databases[table])
        return cursor


class LmdbShardStore:
    """See `ShardStore`. With `identity` the store is made if need be; without, it must exist.

    EnvironmentUnusable when it is another's, missing or unreadable, OtherFormat when it is of another version's format.
    """

    def __init__(self, path: Path, identity: Identity | None = None) -> None:
        self._environment = open_environment(path, create=identity is not None, tables=len(TABLES))
        try:
            self._databases = self._open_tables(identity)
            with self._environment.read() as transaction:
                self._identity = _identity(path, transaction, self._databases)
            if identity is not None and self._identity != identity:
                raise EnvironmentUnusable(f"{path} holds {self._identity}, not {identity}")
        except BaseException:
            close_environment(self._environment)
            raise

    def _open_tables(self, identity: Identity | None) -> dict[str, Any]:
        env, known = self._environment.env, self._environment.databases
        if identity is None:
            if known:
                return known
            try:
                # LMDB keeps handles only from a write transaction; ours waits for the writer with a limit. Whoever
                # opens it again in this process, while somebody has it open, waits for nobody.
                with self._environment.write() as transaction:
                    opened = {META: env.open_db(META.encode(), txn=transaction, create=False)}
                    _identity(self._environment.path, transaction, opened)  # another format has other tables
                    opened |= {name: env.open_db(name.encode(), txn=transaction, create=False) for name in TABLES}
                known |= opened  # not before the commit: no transaction that began earlier knows a handle
                return known
            except WriteLockTimeout as timeout:
                raise StoreBusy(str(timeout)) from timeout
            except lmdb.Error as error:
                raise EnvironmentUnusable(f"{self._environment.path} is not a shard's store: {error}") from error
        with self._environment.write() as transaction:
            databases: dict[str, Any] = {name: env.open_db(name.encode(), txn=transaction) for name in TABLES}
            meta = databases[META]
            if transaction.get(_IDENTITY, db=meta) is None:
                transaction.put(_IDENTITY, msgspec.msgpack.encode(identity), db=meta)
                transaction.put(_CHECKPOINT, msgspec.msgpack.encode(Checkpoint()), db=meta)
        return databases

    @property
    def identity(self) -> Identity:
        return self._identity

    def snapshot(self) -> OpenSnapshot:
        return OpenSnapshot(self._environment.read(), self._databases)

    def checkpoint(self) -> Checkpoint:
        with self._environment.read() as transaction:
            return _checkpoint(transaction, self._databases)

    def commit(self, expected: int, checkpoint: Checkpoint, changes: Changes) -> None:
        encoded = msgspec.msgpack.encode(checkpoint)
        try:
            with self._environment.write() as transaction:
                found = _checkpoint(transaction, self._databases).position
                if found != expected:
                    raise Superseded(f"{self._environment.path}: expected position {expected}, found {found}")
                for name, rows in changes.items():
                    _change(transaction, self._databases[name], rows)
                transaction.put(_CHECKPOINT, encoded, db=self._databases[META])
        except lmdb.Error as error:
            raise (StoreFull if self._no_room(error) else StoreError)(f"{self._environment.path}: {error}") from error

    def _no_room(self, error: lmdb.Error) -> bool:
        code = getattr(error, "code", None)
        if isinstance(error, lmdb.MapFullError | lmdb.DiskError) or code in NO_ROOM:
            return True
        return code == errno.EIO and self._environment.is_full()  # so LMDB calls a write that was cut short

    def release_dead_readers(self) -> int:
        """Free the snapshots of processes that were killed; how many there were."""
        return int(self._environment.env.reader_check())

    def bytes_stored(self) -> int:
        return (self._environment.path / "data.mdb").stat().st_size

    def close(self) -> None:
        close_environment(self._environment)


class OpenSnapshot:
    """A snapshot while it is entered."""

    __slots__ = ("_databases", "_read")

    def __init__(self, read: Read, databases: dict[str, Any]) -> None:
        self._read = read
        self._databases = databases

    def __enter__(self) -> LmdbSnapshot:
        transaction = self._read.__enter__()
        try:
            return LmdbSnapshot(transaction, self._databases)
        except BaseException:
            self._read.__exit__()
            raise

    def __exit__(self, *exception: object) -> None:
        self._read.__exit__()


def _change(transaction: lmdb.Transaction[bytes], database: Any, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
    with transaction.cursor(db=database) as cursor:
        cursor.putmulti([(key, value) for key, value in rows if value is not None])
        for key, value in rows:
            if value is None and cursor.set_key(key):
                cursor.delete()


def _checkpoint(transaction: lmdb.Transaction[bytes], databases: dict[str, Any]) -> Checkpoint:
    data = transaction.get(_CHECKPOINT, db=databases[META])
    return Checkpoint() if data is None else _decode_checkpoint(data)


def _identity(path: Path, transaction: lmdb.Transaction[bytes], databases: dict[str, Any]) -> Identity:
    data = transaction.get(_IDENTITY, db=databases[META])
    if data is None:
        raise EnvironmentUnusable(f"{path} is not a shard's store: it does not say whose")
    try:
        identity = _decode_identity(data)
    except msgspec.MsgspecError as error:
        raise EnvironmentUnusable(f"{path} is not a shard's store: {error}") from error
    if identity.format > FORMAT:
        raise OtherFormat(f"{path} was made by a newer version (format {identity.format}, known: {FORMAT})")
    if identity.format < FORMAT:
        older = f"{path} was made by an older version (format {identity.format}, now {FORMAT})"
        raise OtherFormat(f"{older}; `darkroom rebuild` makes another from the log")
    return identity
