"""The pointer in a real Cassandra: replaced in one step, and no number given twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from services.keyspaces import own_keyspace
from services.services import Services

from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.generations import Pointer, PointerDamaged
from darkroom.projections.pointer_cassandra import CassandraPointers
from darkroom.projections.store import StoreUnavailable

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def session(service: Services) -> Iterator[CassandraSession]:
    with own_keyspace(service) as session:
        yield session


def test_the_pointer_is_replaced_in_one_step_and_numbers_are_never_given_twice(session: CassandraSession) -> None:
    pointers = CassandraPointers(session)
    assert pointers.read() == Pointer()
    with ThreadPoolExecutor(6) as threads:
        given = list(threads.map(lambda _: CassandraPointers(session).allot(), range(12)))
    assert sorted(set(given)) == sorted(given)
    highest = max(given)
    pointers.write(Pointer(3, 4, 3))
    assert CassandraPointers(session).read() == Pointer(3, 4, highest), "what was given stays given"
    assert pointers.allot() == highest + 1
    pointers.write(Pointer(highest + 1, 8, highest + 1))
    assert pointers.read() == Pointer(highest + 1, 8, highest + 1)


def test_a_number_whose_answer_is_lost_is_not_given_again(
    session: CassandraSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointers, carried_out = CassandraPointers(session), session.execute_if
    first = pointers.allot()

    def answer_lost(*request: object) -> object:
        carried_out(*request)  # type: ignore[arg-type]
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(session, "execute_if", answer_lost)
    with pytest.raises(StoreUnavailable):
        pointers.allot()
    monkeypatch.undo()
    assert pointers.allot() == first + 2


def test_a_pointer_that_makes_no_sense_is_refused(session: CassandraSession) -> None:
    pointers = CassandraPointers(session)
    before = pointers.read()
    table = f"{session.address.keyspace}.generation_pointer"
    session.execute_if(session.prepare(f"UPDATE {table} SET shards = ? WHERE place = 0 IF EXISTS"), (-1,))
    with pytest.raises(PointerDamaged, match="shards=-1"):
        pointers.read()
    session.execute_if(session.prepare(f"UPDATE {table} SET shards = ? WHERE place = 0 IF EXISTS"), (before.shards,))
