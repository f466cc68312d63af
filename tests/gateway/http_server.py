"""A server to test against, as a program of its own: `python http_server.py DATA [--setting value] [--limit value]`.

It runs its shards in threads of its own process and hashes passwords cheaply; everything else is as `darkroom serve`.
"""

import argparse
import resource
import signal
from pathlib import Path
from typing import Any

from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.events.data_directory import WorkLock
from darkroom.gateway import sign_up
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.http.limits import Limits
from darkroom.gateway.http.server import listening, serve, url_of
from darkroom.gateway.passwords import PasswordHashing
from darkroom.gateway.settings import load_settings


def main(data: Path, settings: dict[str, object], limits: dict[str, Any], idle: bool) -> None:
    sign_up.IN_FLIGHT_S = 0  # nobody else serves the directory, and nobody here waits a minute
    loaded = load_settings({"data": data, **settings}, {}, None)
    with Darkroom(loaded, create=True, waits_for_lagging=False) as darkroom:
        lock = WorkLock(darkroom.directory, "test server")
        supervisor = darkroom.supervisor(InlineRuntime())
        supervisor.start()
        if idle:  # the shards stand still, as if they were far behind
            supervisor.close()
        else:
            supervisor.run()
        gateway = Gateway(darkroom)
        gateway.credentials._hashing = PasswordHashing(memory_kib=8, passes=1, lanes=1)
        try:
            with listening("127.0.0.1", 0) as listener:
                url = url_of("127.0.0.1", listener)
                serve(gateway, listener, lambda: print(url, flush=True), Limits(**limits))
        finally:
            gateway.close()
            if not idle:
                supervisor.close()
            lock.close()
    print("stopped", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--setting", nargs=2, action="append", default=[])
    parser.add_argument("--limit", nargs=2, action="append", default=[])
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--file-bytes", type=int)
    arguments = parser.parse_args()
    if arguments.file_bytes:  # no file may grow beyond this, as if the disk were full
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_bytes, arguments.file_bytes))
    chosen = {
        name: int(value) if isinstance(getattr(Limits(), name), int) else float(value)
        for name, value in arguments.limit
    }
    main(arguments.data, dict(arguments.setting), chosen, arguments.idle)
