"""Tables of one concern in Cassandra: made at the start, read and decided upon by statements that are prepared once.

Failures of the connection are raised as whoever keeps the tables calls them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from darkroom.projections.cassandra_schema import ensure_schema
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.store import StoreError

SERIAL = "SERIAL"


class CassandraTables:
    """The session is shared, and closed by whoever opened it. Any number of threads may call."""

    def __init__(
        self, session: CassandraSession, name: str, version: int, tables: Sequence[str], unusable: type[Exception]
    ) -> None:
        self._session = session
        self._unusable = unusable
        ensure_schema(session, name, version, tables)

    def read(self, cql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._errors_named():
            return self._session.execute(self._session.prepare(cql), parameters)

    def read_serially(self, cql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As of the last conditional write, wherever it was made; one that was left half done is finished first."""
        with self._errors_named():
            return self._session.execute(self._session.prepare(cql, SERIAL), parameters)

    def write(self, cql: str, *parameters: object) -> None:
        self.read(cql, *parameters)

    def write_all(self, cql: str, rows: Sequence[Sequence[object]]) -> None:
        with self._errors_named():
            statement = self._session.prepare(cql)
            self._session.execute_all((statement, row) for row in rows)

    def decide(self, cql: str, *parameters: object) -> dict[str, Any] | None:
        """A conditional write: None once it is applied, else what was found instead; perhaps what it wrote itself."""
        with self._errors_named():
            return self._session.execute_if(self._session.prepare(cql), parameters)

    def decide_all(self, *writes: tuple[str, Sequence[object]]) -> dict[str, Any] | None:
        """As `decide`, of several writes in one partition."""
        with self._errors_named():
            return self._session.execute_batch_if(
                [(self._session.prepare(cql), parameters) for cql, parameters in writes]
            )

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise self._unusable(str(error)) from error
