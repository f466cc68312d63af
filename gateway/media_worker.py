"""A decoding process: reads files from standard input and answers each with its renditions or with why it is refused.

It keeps itself small: memory, processor time for each file, no files written, no core dump. It ends when the gateway
does, for its input ends then.
"""

import math
import os
import resource
import signal
import sys
import time
from typing import BinaryIO

from darkroom.gateway.media_decoding import develop
from darkroom.gateway.media_protocol import (
    FILE_BYTES_MAX,
    MediaRefused,
    read_frame,
    write_developed,
    write_frame,
    write_refused,
)

FILES_OPEN_MAX = 16


def main(memory_bytes: int, cpu_s: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gateway decides when its processes end
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land among the answers
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, FILES_OPEN_MAX)
    write_frame(answers, b"ready")
    while True:
        try:
            data = read_frame(requests, FILE_BYTES_MAX)
        except EOFError:
            return
        _limit_processor_time(cpu_s)
        _answer(answers, data, memory_bytes)


def _answer(answers: BinaryIO, data: bytes, memory_bytes: int) -> None:
    try:
        photo = develop(data)
    except MediaRefused as refused:
        write_refused(answers, refused)
    except MemoryError:
        limit = f"{memory_bytes >> 20} MiB"
        write_refused(answers, MediaRefused(413, f"file needs more memory to decode than the limit of {limit}"))
    except Exception as error:
        # Decoders meet hostile bytes with every error there is; whichever it is, the file is at fault.
        write_refused(answers, MediaRefused(422, f"file could not be decoded: {error or type(error).__name__}"))
    else:
        write_developed(answers, photo)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _limit_processor_time(cpu_s: int) -> None:
    """The limit counts from the process's start, so it is moved for each file; the kernel kills at it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_s, hard))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
