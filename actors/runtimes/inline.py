"""The runtime in the caller's own process: a thread a shard. What is tested without Ray, and what small logs need."""

from darkroom.actors.runtime import ShardSpec
from darkroom.actors.worker import Worker


class InlineRuntime:
    """See `Runtime`."""

    def __init__(self) -> None:
        self._workers: dict[tuple[int, int], Worker] = {}

    def start(self, spec: ShardSpec) -> None:
        # Another process has taken the shard over only if somebody broke the work lock; then its thread just ends.
        self._workers[spec.generation, spec.shard] = Worker(spec, on_superseded=lambda: None)

    def nudge(self) -> None:
        for worker in list(self._workers.values()):
            worker.nudge()

    def faults(self) -> dict[tuple[int, int], str | None]:
        return {key: worker.fault for key, worker in list(self._workers.items())}

    def stop(self, generation: int) -> None:
        self._stop([key for key in self._workers if key[0] == generation])

    def close(self) -> None:
        self._stop(list(self._workers))

    def _stop(self, keys: list[tuple[int, int]]) -> None:
        found = [self._workers.pop(key, None) for key in keys]  # None where another thread stops them too
        workers = [worker for worker in found if worker is not None]
        for worker in workers:
            worker.stop_soon()
        for worker in workers:
            worker.stop()
