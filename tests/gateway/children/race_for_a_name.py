"""One of several gateways that bind at once: first one claim to users of its own, then a claim of its own to one name.

The address and the claims come by standard input; what was bound goes to standard output.
"""

import json
import pickle
import sys
from pathlib import Path

from darkroom.gateway.credentials import AlreadyBound
from darkroom.gateway.credentials_cassandra import CassandraCredentialStore
from darkroom.projections.cassandra_session import open_session

DEADLINE_S = 60.0


def main(number: int, folder: Path) -> None:
    address, shared, own = pickle.load(sys.stdin.buffer)
    session = open_session(address, create=False, wait_s=DEADLINE_S, tell=print)
    store = CassandraCredentialStore(session)
    (folder / str(number)).touch()
    while not (folder / "go").exists():
        store.pending()
    bound = []
    for claim, user in [(claim, 1000 * turn + number) for turn, claim in enumerate(shared + own)]:
        try:
            store.bind(claim, user)
            bound.append((claim, user))
        except AlreadyBound:
            continue
    session.close()
    print(json.dumps(bound))


main(int(sys.argv[1]), Path(sys.argv[2]))
