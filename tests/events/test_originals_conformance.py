"""What every adapter of the originals' port must do; the memory adapter is the oracle."""

import hashlib
import io
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from services.object_store import Buckets, ObjectStoreServer

from darkroom.events.originals import DamagedOriginal, OriginalMissing, Originals, OriginalsFull, OriginalsUnavailable
from darkroom.events.originals_adapters.folder import CHUNK_BYTES, FolderOriginals
from darkroom.events.originals_adapters.memory import MemoryOriginals
from darkroom.events.originals_adapters.s3 import MEMORY_BYTES_MAX, S3Originals

PHOTO = b"\xff\xd8 a photo \xff\xd9" * 1000
PHOTO_HASH = hashlib.sha256(PHOTO).hexdigest()
NO_HASHES = ["", "photo", "../../../../etc/passwd", PHOTO_HASH.upper(), PHOTO_HASH + "\n", PHOTO_HASH[:-1], "0" * 5000]

Damage = Callable[[str], None]


def file_of(folder: Path, content_hash: str) -> Path:
    return folder / content_hash[:2] / content_hash[2:4] / content_hash


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def memory_originals(_: pytest.FixtureRequest) -> tuple[Originals, Damage]:
    originals = MemoryOriginals()
    return originals, lambda content_hash: originals._contents.update({content_hash: b"rotten"})


def folder_originals(request: pytest.FixtureRequest) -> tuple[Originals, Damage]:
    path: Path = request.getfixturevalue("tmp_path") / "originals"

    def damage(content_hash: str) -> None:
        file = file_of(path, content_hash)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    return FolderOriginals(path), damage


def s3_originals(request: pytest.FixtureRequest) -> tuple[Originals, Damage]:
    server: ObjectStoreServer = request.getfixturevalue("object_store_server")
    address = server.bucket()

    def damage(content_hash: str) -> None:
        key = f"/{address.bucket}/{address.prefix}/{content_hash}"
        data = bytearray(server.ask("GET", key))
        data[len(data) // 2] ^= 1
        server.ask("PUT", key, bytes(data))

    return S3Originals(address), damage


@pytest.fixture(params=[memory_originals, folder_originals, s3_originals], ids=["memory", "folder", "s3"])
def adapter(request: pytest.FixtureRequest) -> Iterator[tuple[Originals, Damage]]:
    originals, damage = request.param(request)
    yield originals, damage
    originals.close()


@pytest.fixture
def originals(adapter: tuple[Originals, Damage]) -> Originals:
    return adapter[0]


@pytest.mark.parametrize("content", [b"", b"a", PHOTO, bytes(2 * CHUNK_BYTES + 1)], ids=["empty", "1", "some", "many"])
def test_what_is_put_is_read_back_under_its_sha256(originals: Originals, content: bytes) -> None:
    content_hash = originals.put(content)
    assert content_hash == hashlib.sha256(content).hexdigest()
    assert originals.has(content_hash)
    assert originals.size(content_hash) == len(content)
    assert originals.read(content_hash) == content
    with originals.open(content_hash) as stream:
        assert stream.read() == content
        stream.seek(0)
        assert stream.read(3) == content[:3]


def test_a_stream_is_stored_like_its_bytes_and_from_where_it_stands(originals: Originals) -> None:
    stream = io.BytesIO(b"before" + PHOTO)
    stream.seek(len(b"before"))
    assert originals.put(stream) == PHOTO_HASH
    assert originals.read(PHOTO_HASH) == PHOTO


def test_putting_the_same_again_changes_nothing(originals: Originals) -> None:
    assert originals.put(PHOTO) == originals.put(io.BytesIO(PHOTO)) == PHOTO_HASH
    assert originals.read(PHOTO_HASH) == PHOTO


@pytest.mark.parametrize("content_hash", [PHOTO_HASH, *NO_HASHES])
def test_what_was_never_put_is_missing_and_no_text_leads_out_of_the_store(
    originals: Originals, content_hash: str
) -> None:
    assert not originals.has(content_hash)
    for ask in (originals.read, originals.open, originals.size):
        with pytest.raises(OriginalMissing):
            ask(content_hash)


def test_a_damaged_original_is_refused_and_mended_by_putting_it_again(adapter: tuple[Originals, Damage]) -> None:
    originals, damage = adapter
    originals.put(PHOTO)
    damage(PHOTO_HASH)
    for ask in (originals.read, originals.open):
        with pytest.raises(DamagedOriginal, match=PHOTO_HASH):
            ask(PHOTO_HASH)
    originals.put(PHOTO)
    assert originals.read(PHOTO_HASH) == PHOTO


def test_a_stream_that_breaks_off_stores_nothing(originals: Originals) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() or size == -1:
                raise ConnectionResetError("the client is gone")
            return super().read(5)

    with pytest.raises(ConnectionResetError):
        originals.put(Broken(PHOTO))
    assert not originals.has(hashlib.sha256(PHOTO[:5]).hexdigest())


def test_threads_putting_the_same_and_others_agree(originals: Originals) -> None:
    contents = [bytes([i % 5]) * 5000 for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        hashes = list(threads.map(originals.put, contents))
    assert hashes == [hashlib.sha256(content).hexdigest() for content in contents]
    assert [originals.read(content_hash) for content_hash in hashes] == contents


def test_a_folder_reopened_holds_what_it_held_and_is_its_owners_alone(tmp_path: Path) -> None:
    FolderOriginals(tmp_path / "originals").put(PHOTO)
    assert FolderOriginals(tmp_path / "originals").read(PHOTO_HASH) == PHOTO
    assert (tmp_path / "originals").stat().st_mode & 0o777 == 0o700
    assert file_of(tmp_path / "originals", PHOTO_HASH).stat().st_mode & 0o777 == 0o600


def test_content_is_synced_before_it_is_named_and_the_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = FolderOriginals(tmp_path)
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(file: int) -> None:
        calls.append("sync " + str(Path(f"/proc/self/fd/{file}").readlink()).removeprefix(str(tmp_path)))
        fsync(file)

    def recorded_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    originals.put(PHOTO)
    assert calls[0].startswith("sync /incoming/")
    assert calls[1] == "rename"
    assert set(calls[2:]) == {f"sync /{PHOTO_HASH[:2]}/{PHOTO_HASH[2:4]}", f"sync /{PHOTO_HASH[:2]}", "sync "}


KILLED_BEFORE_CALL = """
import os, signal, sys
from pathlib import Path
from darkroom.events.originals_adapters.folder import FolderOriginals

originals, calls = FolderOriginals(Path(sys.argv[1])), 0

def dying(call):
    def counted(*arguments, **options):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            print(call.__name__, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted

for name in ("open", "write", "fsync", "mkdir", "replace"):
    setattr(os, name, dying(getattr(os, name)))
originals.put(b"photo" * 500_000)
"""


def test_a_writer_killed_before_any_call_leaves_the_original_or_nothing(tmp_path: Path) -> None:
    content = b"photo" * 500_000
    content_hash = hashlib.sha256(content).hexdigest()
    killed_before: list[str] = []
    for call in range(1, 30):
        path = tmp_path / str(call)
        child = subprocess.run(
            [sys.executable, "-c", KILLED_BEFORE_CALL, str(path), str(call)], capture_output=True, text=True
        )
        originals = FolderOriginals(path)
        named = "replace" in killed_before
        assert originals.has(content_hash) is named
        assert files_in(path) == ([file_of(path, content_hash)] if named else [])
        if named:
            assert originals.read(content_hash) == content
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, child.stderr
        killed_before.append(child.stdout.strip())
    assert {"write", "fsync", "replace"} < set(killed_before)
    assert killed_before.count("fsync") == 4


def test_opening_sweeps_what_was_left_but_not_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "left").write_bytes(b"half a pho")
    seen: list[int] = []

    class Opening(io.BytesIO):
        """Opens the same folder, as another process would, in the middle of being stored."""

        def read(self, size: int | None = -1, /) -> bytes:
            FolderOriginals(tmp_path)
            seen.append(len(files_in(tmp_path)))
            return super().read(size)

    assert FolderOriginals(tmp_path).put(Opening(PHOTO)) == PHOTO_HASH
    assert seen == [1, 1]
    assert files_in(tmp_path) == [file_of(tmp_path, PHOTO_HASH)]


def test_without_room_nothing_is_stored_and_storing_goes_on_afterwards(tmp_path: Path) -> None:
    originals = FolderOriginals(tmp_path)
    originals.put(b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PHOTO) - 1, hard))
    try:
        with pytest.raises(OriginalsFull, match="no room"):
            originals.put(PHOTO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not originals.has(PHOTO_HASH)
    assert len(files_in(tmp_path)) == 1
    assert originals.put(PHOTO) == PHOTO_HASH


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_at_any_call_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    originals = FolderOriginals(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OriginalsFull):
            originals.put(PHOTO)
    assert files_in(tmp_path) == []
    assert originals.put(PHOTO) == PHOTO_HASH


# ---- on S3


def test_an_original_larger_than_memory_allows_goes_and_comes_in_parts(object_store: Buckets) -> None:
    originals = S3Originals(object_store())
    content = os.urandom(MEMORY_BYTES_MAX + 1)
    content_hash = originals.put(io.BytesIO(content))
    assert content_hash == hashlib.sha256(content).hexdigest()
    assert originals.size(content_hash) == len(content)
    assert originals.read(content_hash) == content
    with originals.open(content_hash) as stream:
        assert stream.read() == content
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == content[-3:]


def test_processes_share_a_store_and_prefixes_do_not_mix(object_store: Buckets) -> None:
    address = object_store()
    assert S3Originals(address).put(PHOTO) == PHOTO_HASH
    assert S3Originals(pickle.loads(pickle.dumps(address))).read(PHOTO_HASH) == PHOTO
    assert not S3Originals(address.below("other")).has(PHOTO_HASH)


def test_a_store_that_is_silent_or_gone_is_unavailable_by_the_deadline() -> None:
    server = ObjectStoreServer()
    try:
        originals = S3Originals(server.bucket(deadline_s=1.5))
        originals.put(PHOTO)
        asks = (lambda: originals.put(PHOTO), *(partial(ask, PHOTO_HASH) for ask in (originals.read, originals.has)))
        server.process.send_signal(signal.SIGSTOP)
        for ask in asks:
            began = time.monotonic()
            with pytest.raises(OriginalsUnavailable):
                ask()
            assert time.monotonic() - began < 20, "the deadline is 1.5 s"
        server.process.send_signal(signal.SIGCONT)
        assert originals.read(PHOTO_HASH) == PHOTO
    finally:
        server.stop()
    for ask in asks:
        with pytest.raises(OriginalsUnavailable):
            ask()


class _Full(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(507, "Insufficient Storage")

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_store_without_room_is_told_apart(object_store: Buckets) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Full)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(OriginalsFull, match="no room"):
            S3Originals(replace(object_store(), endpoint=endpoint, deadline_s=3.0)).put(PHOTO)
    finally:
        server.shutdown()
        server.server_close()


def test_a_temporary_folder_without_room_is_told_and_nothing_is_stored(object_store: Buckets) -> None:
    originals = S3Originals(object_store())
    content = bytes(MEMORY_BYTES_MAX + 1)
    content_hash = originals.put(io.BytesIO(content))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OriginalsFull, match="no room for a temporary file"):
            originals.put(io.BytesIO(content + b"more"))
        with pytest.raises(OriginalsFull, match="no room for a temporary file"):
            originals.open(content_hash)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not originals.has(hashlib.sha256(content + b"more").hexdigest())
    assert originals.put(io.BytesIO(content)) == content_hash
