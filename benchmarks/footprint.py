"""How many bytes a shard's tables take on the disk: whole LMDB pages, partly filled ones too."""

from collections.abc import Iterable

from darkroom.projections.stores.lmdb import LmdbShardStore


def table_bytes(stores: Iterable[LmdbShardStore]) -> dict[str, int]:
    """Bytes of pages in use, by table, over all the shards."""
    found: dict[str, int] = {}
    for store in stores:
        with store._environment.read() as transaction:
            for name, database in store._databases.items():
                stat = transaction.stat(database)
                pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                found[name] = found.get(name, 0) + pages * stat["psize"]
    return found
