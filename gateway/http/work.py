"""Threads for what blocks: decoding, files and small databases. Each pool has a bound, and so has what waits for it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from darkroom.gateway.composition import Gateway
from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.limits import Limits
from darkroom.gateway.sign_up import SignUps

FILE_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Work:
    """One for the application. Passwords have threads of their own (see `SignUps`): they take a fifth of a second."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self.sign_ups = SignUps(gateway)
        self._limits = limits
        self._files_free = threading.BoundedSemaphore(limits.files_at_once)
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")
        self._uploads = ThreadPoolExecutor(limits.uploads_at_once, thread_name_prefix="uploads")
        self._uploads_free = limits.uploads_at_once

    async def on_file_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call`, which touches files or copies megabytes, and takes milliseconds where no server hangs.

        Refused 503, and not begun, where too many are under way or none of the threads is free in time.
        """
        if not self._files_free.acquire(blocking=False):
            raise Refused(503, "too many photos and uploads at once; try again")
        work = self._files.submit(call, *args, **kwargs)
        work.add_done_callback(lambda _: self._files_free.release())
        result = asyncio.wrap_future(work)
        if not (await asyncio.wait([result], timeout=self._limits.file_wait_s))[0] and work.cancel():
            raise Refused(503, "photos and uploads take too long; try again")
        return await result

    async def on_upload_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call`, which decodes an upload; only for whoever has taken a place."""
        return await asyncio.get_running_loop().run_in_executor(self._uploads, lambda: call(*args, **kwargs))

    def take_upload_place(self) -> None:
        """An upload lies in memory from its first byte on, so it needs a place before that; Refused 503."""
        if not self._uploads_free:
            raise Refused(503, "too many uploads at once; try again")
        self._uploads_free -= 1

    def free_upload_place(self) -> None:
        self._uploads_free += 1

    def close(self) -> None:
        self.sign_ups.close()
        self._files.shutdown()
        self._uploads.shutdown()
