"""Redis under keys of a test's own."""

import uuid

from services.services import Services

from darkroom.projections.redis_link import RedisAddress


def redis_address(service: Services) -> RedisAddress:
    """So patient that an answer which is late on a busy machine is no failure."""
    where = service("redis")
    return RedisAddress(where["host"], where["port"], f"test:{uuid.uuid4().hex}", deadline_s=5, tell_s=5, pauses=0)
