"""One of several gateways on a port (see `gateway_pool`): its settings come by standard input, and it serves until that
ends, which it does with whoever started it.
"""

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import closing

from darkroom.gateway.commands.gateway_pool import STOP_S_MAX
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.http.server import joining, serve
from darkroom.gateway.main import REFUSALS, told
from darkroom.gateway.settings import Settings


def main() -> int:
    """The exit status, as the command's is."""
    try:
        settings: Settings = pickle.load(sys.stdin.buffer)
    except EOFError:
        return 1  # whoever started it is gone already
    threading.Thread(target=_stop_when_input_ends, daemon=True).start()
    try:
        with (
            Darkroom(settings, waits_for_lagging=False) as darkroom,
            closing(Gateway(darkroom)) as gateway,
            joining(settings.host, settings.port) as listener,
        ):
            serve(gateway, listener, lambda: print("ready", flush=True))
    except REFUSALS as refusal:
        print(f"darkroom: {told(refusal)}", file=sys.stderr)
        return 1
    return 0


def _stop_when_input_ends() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S_MAX)  # nobody else may be there to see to it that it ends
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
