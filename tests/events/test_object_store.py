"""The object store's address and its errors: what is wrong is named with what to do, and no secret is shown."""

import pickle
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from services.object_store import Buckets, ObjectStoreServer

from darkroom.events.object_store import (
    PART_BYTES,
    SMALL_BYTES,
    ObjectMissing,
    ObjectStore,
    ObjectStoreAddress,
    ObjectStoreMisconfigured,
    ObjectStoreUnavailable,
)


def address(**fields: Any) -> ObjectStoreAddress:
    named = {"url": "s3://prints/here/and/there/", "access_key": "open-", "secret": "sesame", **fields}
    return ObjectStoreAddress(**named)


def test_an_address_is_read_and_handed_on_and_shows_no_secret() -> None:
    there = address(endpoint="http://127.0.0.1:9")
    assert (there.bucket, there.prefix) == ("prints", "here/and/there")
    assert there.below("originals").prefix == "here/and/there/originals"
    assert address(url="s3://prints").prefix == ""
    assert address(url="s3://prints").below("originals").prefix == "originals"
    assert pickle.loads(pickle.dumps(there)) == there
    assert "sesame" not in f"{there!r} {there}"
    assert "open-" not in f"{there!r} {there}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "/var/prints"}, "must be s3://bucket"),
        ({"url": "https://prints"}, "must be s3://bucket"),
        ({"url": "s3://"}, "must be s3://bucket"),
        ({"url": "s3://open-:sesame@prints"}, "must be s3://bucket"),
        ({"endpoint": "127.0.0.1:9000"}, "must be http:// or https://"),
        ({"access_key": ""}, "needs an access key and a secret"),
        ({"secret": ""}, "needs an access key and a secret"),
        ({"deadline_s": 0}, "must be above 0"),
        ({"deadline_s": float("nan")}, "must be above 0"),
        ({"content_deadline_s": 0}, "must be above 0"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ObjectStoreMisconfigured, match=message) as refused:
        address(**fields)
    assert "sesame" not in str(refused.value)


def test_a_bucket_that_is_there_passes_the_look_and_nothing_is_written(object_store: Buckets) -> None:
    store = ObjectStore(object_store())
    store.check()
    assert store.keys("") == []


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(object_store: Buckets) -> None:
    store = ObjectStore(replace(object_store(), url="s3://misspelt/prints"))
    for ask in (store.check, lambda: store.put("a", b"a"), lambda: store.get("a"), lambda: store.keys("")):
        with pytest.raises(ObjectStoreMisconfigured, match=r"there is no bucket 'misspelt'.*make it, or correct"):
            ask()


@pytest.fixture
def own_server() -> Iterator[ObjectStoreServer]:
    server = ObjectStoreServer()
    yield server
    server.stop()


def test_wrong_credentials_are_named_with_what_to_do(own_server: ObjectStoreServer) -> None:
    there = own_server.bucket()
    own_server.refuse_strangers()
    store = ObjectStore(there)
    for ask in (store.check, lambda: store.put("a", b"a"), lambda: store.get("a"), lambda: store.size("a")):
        with pytest.raises(ObjectStoreMisconfigured, match="does not let this access key into bucket") as refused:
            ask()
        assert there.secret not in str(refused.value)


def test_a_server_that_is_not_there_is_unavailable(own_server: ObjectStoreServer) -> None:
    store = ObjectStore(own_server.bucket(deadline_s=1.0))
    own_server.stop()
    with pytest.raises(ObjectStoreUnavailable, match=own_server.endpoint):
        store.check()


def test_what_is_small_does_not_wait_as_long_as_what_carries_much(own_server: ObjectStoreServer) -> None:
    store = ObjectStore(replace(own_server.bucket(deadline_s=0.3), content_deadline_s=3600))
    small, large = bytes(SMALL_BYTES), bytes(SMALL_BYTES + 1)
    store.put("large", large)  # as long as the server is there
    own_server.process.send_signal(signal.SIGSTOP)
    for ask in (
        store.check,
        lambda: store.put("small", small),
        lambda: store.get("small"),
        lambda: store.get_range("large", 1, 1 + len(small)),
        lambda: store.size("large"),
        lambda: store.keys(""),
        lambda: store.delete(["large"]),
    ):
        with pytest.raises(ObjectStoreUnavailable):
            ask()
    own_server.process.send_signal(signal.SIGCONT)


def test_what_carries_much_is_waited_for_longer(own_server: ObjectStoreServer) -> None:
    large = bytes(PART_BYTES)
    store = ObjectStore(replace(own_server.bucket(), deadline_s=1e-6, content_deadline_s=30.0))
    with pytest.raises(ObjectStoreUnavailable):
        store.put("small", b"a")
    store.put("large", large)
    store.put_parts("parts", [large, b"end"])
    assert store.get_range("large", 0, PART_BYTES) == large
    with pytest.raises(ObjectStoreUnavailable):
        store.size("parts")


def test_objects_are_put_listed_and_deleted(object_store: Buckets) -> None:
    store = ObjectStore(object_store())
    names = [f"folder/{number:04}" for number in range(3)]
    for name in (*names, "folder-not/x", "elsewhere"):
        store.put(name, name.encode())
    assert store.keys("folder") == names
    assert store.get(names[1]) == names[1].encode()
    assert store.get_range(names[1], 7, 10_000) == b"0001"
    store.delete([*names[:2], "never/was"])
    assert store.keys("") == ["elsewhere", "folder-not/x", names[2]]
    with pytest.raises(ObjectMissing):
        store.get(names[0])


def test_what_breaks_off_in_the_middle_of_parts_is_no_object(
    object_store: Buckets, object_store_server: ObjectStoreServer
) -> None:
    there = object_store()
    store = ObjectStore(there)

    def broken() -> Iterator[bytes]:
        yield bytes(PART_BYTES)
        yield bytes(PART_BYTES)
        raise RuntimeError("the disk failed")

    with pytest.raises(RuntimeError, match="the disk failed"):
        store.put_parts("big", broken())
    assert store.keys("") == []
    assert b"<Upload>" not in object_store_server.ask("GET", f"/{there.bucket}?uploads")
    store.put_parts("big", [bytes(PART_BYTES), b"end"])
    assert store.size("big") == PART_BYTES + 3


class _Seen(BaseHTTPRequestHandler):
    """Takes any object, and remembers the request's headers."""

    requests: ClassVar[list[dict[str, str]]] = []

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "ENDPOINT", "ENDPOINT_URL"):
        monkeypatch.setenv(f"AWS_{name}", "http://127.0.0.1:1/stranger")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Seen)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        ObjectStore(address(endpoint=endpoint, deadline_s=5.0)).put("a", b"a")
    finally:
        server.shutdown()
        server.server_close()
    (headers,) = _Seen.requests
    assert "Credential=open-/" in headers["authorization"]
    assert "/us-east-1/s3/" in headers["authorization"]
    assert "stranger" not in str(headers)
    assert address(region="eu-north-1").server == "https://s3.eu-north-1.amazonaws.com"
    assert ObjectStore(address())._store.prefix == "here/and/there"
