"""bytewax: one stateful_map whose state is a plain world, one worker, nothing recovered from."""

import time

import bytewax.operators as op  # type: ignore[import-not-found]
import msgspec
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.testing import TestingSink, TestingSource, run_main  # type: ignore[import-not-found]

from benchmarks.peers.plain_world import PlainWorld
from benchmarks.peers.protocol import answer, blocks, digests

BATCH = 1_000


class Rebuild:
    def load(self, path: str) -> int:
        self.bodies = list(enumerate(blocks(path), 1))
        return len(self.bodies)

    def rebuild(self) -> float:
        """Seconds until the dataflow has ended."""
        decode, counted = msgspec.msgpack.Decoder(list).decode, list[int]()

        def fold(world: PlainWorld | None, item: tuple[int, bytes]) -> tuple[PlainWorld, int]:
            world = world or PlainWorld()
            method, *arguments = decode(item[1])
            getattr(world, method)(item[0], *arguments)
            self.world = world
            return world, item[0]

        flow = Dataflow("rebuild")
        stream = op.input("log", flow, TestingSource(self.bodies, batch_size=BATCH))
        keyed = op.key_on("one", stream, lambda _: "world")
        op.output("out", op.stateful_map("fold", keyed, fold), TestingSink(counted))
        began = time.perf_counter()
        run_main(flow)
        taken = time.perf_counter() - began
        if len(counted) != len(self.bodies):
            raise RuntimeError(f"{len(counted)} of {len(self.bodies)} events came out")
        return taken

    def digests(self) -> dict[str, str]:
        return digests(self.world.tables())


if __name__ == "__main__":
    rebuild = Rebuild()
    answer({name: getattr(rebuild, name) for name in ("load", "rebuild", "digests")})
