"""Join a Ray cluster with one more node of this machine: address, folder. It stays when this process has ended.

`ray start` would take the machine's own address for 127.0.0.1, and listen on every interface.
"""

import sys

from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.node import Node
from ray._private.parameter import RayParams

from darkroom.actors.runtimes.ray import OBJECT_STORE_BYTES  # before Ray, of which it turns off what asks the network

address, folder = sys.argv[1:]
maybe_enable_token_auth_if_token_available()  # as `ray start` does
Node(
    RayParams(
        gcs_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=1,
        num_gpus=0,
        object_store_memory=OBJECT_STORE_BYTES,
        node_manager_port=0,
        min_worker_port=0,
        max_worker_port=0,
        include_log_monitor=False,  # type: ignore[arg-type]  # declared as text, and used as this
        temp_dir=folder,
    ),
    head=False,
    shutdown_at_exit=False,
    spawn_reaper=False,
)
