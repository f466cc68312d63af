"""Programs of Darkroom's own as child processes that need not import what they are made of.

Importing takes longer than most of them take for their work, so one process has imported it all, and forks each. From
there on they are as any: standard streams, working directory and environment of their own, and an end of their own.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

PRELOADED = ("darkroom.gateway.main", "cassandra.cluster", "confluent_kafka", "neo4j", "redis")
REQUEST_BYTES_MAX = 256 * 1024


def run_forked(
    program: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] = os.environ,
    timeout_s: float,
) -> "subprocess.CompletedProcess[bytes]":
    """As subprocess.run of Python with this command line, which begins with a script, `-m` or `-c`.

    Output is always captured. Of the variables that Python itself reads at its start, PYTHONPATH alone counts.
    """
    words = [str(word) for word in program]
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        ours, theirs = _pair()
        with ours:
            with theirs:
                request = json.dumps([words, str(Path.cwd()), dict(environment)]).encode()
                streams = [given.fileno(), out.fileno(), errors.fileno()]
                socket.send_fds(_forking()[1], [request], [*streams, theirs.fileno()])
            ours.settimeout(timeout_s)
            child = int(ours.recv(32))
            try:
                status = int(ours.recv(32))
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, timeout_s) from None
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, status, out.read(), errors.read())


@cache
def _forking() -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """The process that forks, which ends when this one does, and the way to it."""
    ours, theirs = _pair()
    with theirs:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a process with threads should not fork
        command = [sys.executable, __file__, str(theirs.fileno())]
        return subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment), ours


def _pair() -> tuple[socket.socket, socket.socket]:
    """What is sent in one piece arrives in one."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _fork_what_is_asked_for(requests: socket.socket) -> tuple[list[str], socket.socket]:
    """Returns in the children alone, each with its program and where to tell of its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the programs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for the tests, with whom this ends
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES_MAX, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    return words, socket.socket(fileno=descriptors[3])


def _run(words: list[str], asker: socket.socket) -> None:
    """The program, in a child; this process tells who that is, and then with which status it ended."""
    child = os.fork()
    if child:
        asker.send(b"%d" % child)
        _, ended = os.waitpid(child, 0)
        asker.send(b"%d" % os.waitstatus_to_exitcode(ended))
        os._exit(0)
    asker.close()
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.modules.pop(words[1], None)  # what it imports stays
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # of the tests' own
    for module in PRELOADED:
        __import__(module)
    _run(*_fork_what_is_asked_for(socket.socket(fileno=int(sys.argv[1]))))
