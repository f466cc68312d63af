"""Work in a directory of one's own on a Ray that runs already, print the actors' processes, and wait to be killed."""

import signal
import sys

from darkroom.actors.runtimes.ray import RayRuntime
from darkroom.events.facts import UserRegistered, personal
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.settings import load_settings

address, path = sys.argv[1:]
with Darkroom(load_settings({"data": path, "shards": 2}, {}, None), create=True) as darkroom:
    darkroom.log.append([UserRegistered(username=personal("ann"), display_name=personal("Ann"))])
    runtime = RayRuntime(address, here=True)
    supervisor = darkroom.supervisor(runtime)
    supervisor.start()
    supervisor.catch_up()
    print(*runtime.processes().values(), flush=True)
    signal.pause()
