"""UmaDB: its server in a process of its own, its client here. https://umadb.io"""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import umadb  # type: ignore[import-not-found]

from benchmarks.peers.protocol import answer

READY_S = 30


class Log:
    def __init__(self) -> None:
        self.url = ""
        self.server: subprocess.Popen[bytes] | None = None

    def open(self, folder: str) -> None:
        """A server of its own, with everything as it is by default."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [str(Path(sys.executable).with_name("umadb")), "--listen", address, "--db-path", f"{folder}/umadb.db"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://{address}"
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.client = umadb.Client(self.url)
                self.client.head()
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def append(self, bodies: list[str], rounds: int, tagged: bool = True) -> float:
        """Seconds for the rounds; each is one durable append of all the bodies.

        A tag names the post, by which its events can be found again; without tags they can only be read all.
        """
        events = [(bytes.fromhex(body), [f"post:{post}"] if tagged else []) for post, body in enumerate(bodies)]
        began = time.perf_counter()
        for _ in range(rounds):
            self.client.append([umadb.Event("PostLiked", body, tags) for body, tags in events])
        return time.perf_counter() - began

    def append_together(self, body: str, writers: int, each: int, tagged: bool = True) -> dict[str, float]:
        """Each writer has a client of its own."""
        data, tags = bytes.fromhex(body), ["post:1"] if tagged else []
        clients = [umadb.Client(self.url) for _ in range(writers)]
        waited: list[float] = []
        barrier = threading.Barrier(writers + 1)

        def write(client: umadb.Client) -> None:
            mine = []
            barrier.wait()
            for _ in range(each):
                began = time.perf_counter()
                client.append([umadb.Event("PostLiked", data, tags)])
                mine.append(time.perf_counter() - began)
            waited.extend(mine)

        threads = [threading.Thread(target=write, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        barrier.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - began
        return {"seconds": taken, "p99_ms": 1e3 * sorted(waited)[len(waited) * 99 // 100]}

    def saved_together(self) -> int:
        """How many events are stored; for a log that holds those of `append_together` alone."""
        return sum(1 for _ in self.client.read())

    def bodies(self) -> list[str]:
        return [bytes(found.event.data).hex() for found in self.client.read()]

    def close(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(10)


if __name__ == "__main__":
    log = Log()
    try:
        answer({name: getattr(log, name) for name in ("open", "append", "append_together", "saved_together", "bodies")})
    finally:
        log.close()
