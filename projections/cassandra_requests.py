"""Many requests to Cassandra at once: how many are under way, how writes are cut into batches, when to stop waiting.

Whatever is asked for, no more than a window of requests is in memory and on the wire, and the results keep its order.
"""

import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cassandra import OperationTimedOut
from cassandra.query import BatchStatement, BatchType

BATCH_STATEMENTS_MAX = 200
BATCH_BYTES_MAX = 32 * 1024  # of values: the server refuses a batch of more than one table above 50 KiB
PAGE_ROWS = 5000
UNTIMED = "untimed"

Statement = Any
"""A prepared statement, or a batch of them; the driver has no types."""
Row = tuple[Any, ...]
Request = tuple[Statement, Sequence[Any]]


def run_all(
    driver: Any,
    requests: Iterable[Request],
    concurrency: int,
    deadline_s: float,
    keep: Callable[[list[Row]], None] | None = None,
) -> None:
    """`keep` is given a list for each request, in order, that holds its rows in the end; without it they are forgotten.

    The first failure is raised once the others that are under way have ended; OperationTimedOut where none of them has
    been answered for `deadline_s`.
    """
    window = _Window(driver, concurrency, deadline_s)
    for statement, parameters in requests:
        window.wait_for_place()
        if window.failure:
            window.leave()
            break
        rows = window.send(statement, parameters)
        if keep:
            keep(rows)
    for _ in range(concurrency):
        window.wait_for_place()
    if window.failure:
        raise window.failure


def batches(group: Sequence[Request]) -> Iterator[Request]:
    """Statements of one partition as unlogged batches within the limits; one by itself needs none."""
    if len(group) == 1:
        yield group[0]
        return
    batch, statements, size = BatchStatement(BatchType.UNLOGGED), 0, 0
    for statement, parameters in group:
        bound = statement.bind(parameters)
        more = sum(len(value) for value in bound.values if isinstance(value, bytes))
        if statements and (statements == BATCH_STATEMENTS_MAX or size + more > BATCH_BYTES_MAX):
            yield batch, ()
            batch, statements, size = BatchStatement(BatchType.UNLOGGED), 0, 0
        batch.add(bound)
        statements, size = statements + 1, size + more
    if statements:
        yield batch, ()


class _Window:
    """Free places in a queue, which costs less than a semaphore; and no timer a request, for that takes a fifth of
    the rate. Instead the wait for a place is limited: no place for so long is a server that does not answer."""

    def __init__(self, driver: Any, concurrency: int, deadline_s: float) -> None:
        self._driver = driver
        self._deadline_s = deadline_s
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(concurrency):
            self.leave()
        self.failure: BaseException | None = None

    def wait_for_place(self) -> None:
        try:
            self._places.get(timeout=self._deadline_s)
        except queue.Empty:
            raise OperationTimedOut(f"no answer in {self._deadline_s:g} s") from self.failure

    def leave(self) -> None:
        self._places.put(None)

    def send(self, statement: Statement, parameters: Sequence[Any]) -> list[Row]:
        """Where the rows will be, once its place is free again."""
        rows: list[Row] = []
        future = self._driver.execute_async(statement, parameters, execution_profile=UNTIMED)
        future.add_callbacks(self._arrived, self._failed, callback_args=(future, rows))
        return rows

    def _arrived(self, page: list[Row] | None, future: Any, rows: list[Row]) -> None:
        if page:
            rows.extend(page)
        if future.has_more_pages:
            future.start_fetching_next_page()
        else:
            self.leave()

    def _failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.leave()
