"""One of several processes that make the same tables at once, and use them. The address comes by standard input."""

import pickle
import sys

from darkroom.projections.cassandra_schema import ensure_schema
from darkroom.projections.cassandra_session import open_session


def main() -> None:
    session = open_session(pickle.load(sys.stdin.buffer), create=True, wait_s=60, tell=print)
    tables = [f"CREATE TABLE IF NOT EXISTS raced_{number} (a int PRIMARY KEY)" for number in range(3)]
    ensure_schema(session, "raced", 1, tables)
    rows = session.execute_all([(session.prepare("SELECT a FROM raced_2"), ())] * 300)
    session.close()
    print(len(rows))


main()
