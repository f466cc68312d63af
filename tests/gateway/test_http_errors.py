"""Bad input: every refusal has its status, a sentence, and the name of the field that was wrong."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from darkroom.events.log import OutcomeUnknown
from darkroom.gateway.http.errors import refusal_of

from .http_client import PASSWORD, Person, Server, picture, refused, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ("--setting", "shards", "2", "--setting", "upload_bytes", "200000")
    with served(tmp_path_factory.mktemp("http") / "data", *options) as running:
        yield running


@pytest.fixture(scope="module")
def person(server: Server) -> Person:
    return server.person()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": "", "password": PASSWORD}, "username"),
        ({"password": PASSWORD}, "username"),
        ({"username": "12345", "password": PASSWORD}, "username"),
        ({"username": "a b", "password": PASSWORD}, "username"),
        ({"username": "ünicode", "password": PASSWORD}, "username"),
        ({"username": "a" * 31, "password": PASSWORD}, "username"),
        ({"username": "somebody"}, "password"),
        ({"username": "somebody", "password": "short"}, "password"),
        ({"username": "somebody", "password": "x" * 257}, "password"),
    ],
)
def test_a_sign_up_that_cannot_be_is_422(server: Server, fields: dict[str, str], field: str) -> None:
    refused(server.client.post("/api/v1/accounts", json=fields), 422, field)


@pytest.mark.parametrize("name", ["username", "password"])
def test_a_sign_up_of_the_wrong_type_is_400(server: Server, name: str) -> None:
    fields: dict[str, Any] = {"username": "somebody", "password": PASSWORD} | {name: 7}
    refused(server.client.post("/api/v1/accounts", json=fields), 400, name)


NEED_A_TOKEN = [
    ("GET", "/api/v1/accounts/verify_credentials"),
    ("PATCH", "/api/v1/accounts/update_credentials"),
    ("GET", "/api/v1/accounts/relationships"),
    ("POST", "/api/v1/accounts/1/follow"),
    ("POST", "/api/v1/accounts/1/block"),
    ("POST", "/api/v1/accounts/1/mute"),
    ("POST", "/api/v2/media"),
    ("GET", "/api/v1/media/1"),
    ("POST", "/api/v1/statuses"),
    ("DELETE", "/api/v1/statuses/1"),
    ("POST", "/api/v1/statuses/1/favourite"),
    ("GET", "/api/v1/timelines/home"),
    ("GET", "/api/darkroom/v1/activity"),
    ("POST", "/api/darkroom/v1/account/delete"),
]


@pytest.mark.parametrize(("method", "path"), NEED_A_TOKEN)
@pytest.mark.parametrize("header", [None, "Bearer " + "x" * 43, "Bearer", "Basic YTpi", "Bearer \xff"])
def test_without_a_good_token_it_is_401(server: Server, method: str, path: str, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    answer = server.client.request(method, path, headers=headers)
    refused(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("wanted", ["1000000", "0", "-1", "01", "abc", "1.5", "٣", "99999999999999999999999", "1%00"])
def test_an_id_of_nothing_is_404(person: Person, method: str, wanted: str) -> None:
    refused(person.ask(method, f"/api/v1/statuses/{wanted}"), 404, "id")
    refused(person.get(f"/api/v1/accounts/{wanted}"), 404, "id")
    refused(person.post(f"/api/v1/accounts/{wanted}/follow"), 404, "id")
    refused(person.post(f"/api/v1/statuses/{wanted}/favourite"), 404, "id")
    refused(person.get(f"/api/v1/media/{wanted}"), 404, "id")


@pytest.mark.parametrize("name", ["limit", "max_id", "since_id", "min_id", "min_position"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "1e3", "９", "1" * 30])
def test_a_malformed_cursor_is_400_and_named(person: Person, name: str, value: str) -> None:
    refused(person.ask("GET", "/api/v1/timelines/home", params={name: value}), 400, name)


def test_a_limit_of_nothing_is_400(person: Person) -> None:
    refused(person.get("/api/v1/timelines/home", limit=0), 400, "limit")


BODIES = [
    (b'{"status": ', "application/json", "body"),
    (b'["status"]', "application/json", "body"),
    (b'{"status": "\xff"}', "application/json", "body"),
    (b"[" * 100_000, "application/json", "body"),
    (b'{"status": "\\ud800"}', "application/json", "body"),
    (b'{"status": "\\udc00 and more"}', "application/json", "body"),
    (b'{"status": 7}', "application/json", "status"),
    (b'{"status": "a", "media_ids": ["x"]}', "application/json", "media_ids"),
    (b'{"status": "a", "media_ids": [true]}', "application/json", "media_ids"),
    (b'{"status": "a", "in_reply_to_id": {"a": 1}}', "application/json", "in_reply_to_id"),
    (b"status=%ff", "application/x-www-form-urlencoded", "body"),
    (b"status=\xff", "application/x-www-form-urlencoded", "body"),
    (b"a=1&" * 300, "application/x-www-form-urlencoded", "body"),
    (b"--x\r\n", "multipart/form-data; boundary=x", "body"),
    (b"--x--", "multipart/form-data", "body"),
    (
        b'--x\r\nContent-Disposition: form-data; name="status"\r\n\r\n\xff\r\n--x--',
        "multipart/form-data; boundary=x",
        "body",
    ),
]


@pytest.mark.parametrize(("body", "kind", "field"), BODIES)
def test_a_body_that_cannot_be_read_is_400(person: Person, body: bytes, kind: str, field: str) -> None:
    refused(person.ask("POST", "/api/v1/statuses", content=body, headers={"Content-Type": kind}), 400, field)


def test_another_kind_of_body_is_415(person: Person) -> None:
    answer = person.ask("POST", "/api/v1/statuses", content=b"<a/>", headers={"Content-Type": "text/xml"})
    refused(answer, 415, "Content-Type")


def test_captions_have_a_length_and_posts_a_number_of_photos(person: Person) -> None:
    assert len(person.publish("ü" * 2200).json()["content_text"]) == 2200
    refused(person.publish("ü" * 2201), 422, "status")
    post = person.published()
    refused(person.publish("ü" * 2201, in_reply_to_id=post), 422, "status")
    refused(person.publish(""), 422, "status")
    refused(person.publish("  \n"), 422, "status")
    refused(person.publish("", in_reply_to_id=post), 422, "status")
    media_ids = [person.upload(picture(seed)).json()["id"] for seed in range(11)]
    refused(person.publish("eleven", media_ids=media_ids), 422, "media_ids")
    attached = person.publish("", media_ids=media_ids[:10]).json()["media_attachments"]
    assert len(attached) == 10
    refused(person.publish("a comment's photo", media_ids=media_ids[:1], in_reply_to_id=post), 422, "media_ids")
    refused(person.publish("unknown", media_ids=["123"]), 422, "media_ids")
    refused(person.publish("key", key="k" * 256), 400, "Idempotency-Key")


def test_a_post_that_is_too_large_for_the_log_is_422(person: Person) -> None:
    wide = "\N{GRINNING FACE}"
    media_ids = [person.upload(picture(seed), description=wide * 1500).json()["id"] for seed in range(10)]
    assert "limit" in refused(person.publish(wide * 2200, media_ids=media_ids), 422)
    assert person.publish(wide * 2200, media_ids=media_ids[:9]).status_code == 200


def test_text_is_escaped_where_it_becomes_html(person: Person) -> None:
    status = person.publish('<script>alert(1)</script> & "quoted" https://a.b/?x="><b>\n\nnew').json()
    assert "<script>" not in status["content"]
    assert "<b>" not in status["content"]
    assert status["content"].endswith("</p><p>new</p>")
    assert status["content_text"].startswith("<script>")


def test_following_oneself_or_nobody_is_refused(person: Person) -> None:
    for deed in ("follow", "unfollow", "block", "unblock", "mute", "unmute"):
        refused(person.post(f"/api/v1/accounts/{person.id}/{deed}"), 422, "id")
        refused(person.post(f"/api/v1/accounts/100000/{deed}"), 404, "id")


def test_what_is_deleted_can_be_neither_liked_nor_commented_on(server: Server, person: Person) -> None:
    author = server.person()
    post = author.published()
    comment = author.published("c", in_reply_to_id=post)
    refused(person.post(f"/api/v1/statuses/{comment}/favourite"), 422, "id")
    author.ask("DELETE", f"/api/v1/statuses/{comment}")
    refused(person.publish("reply to nothing", in_reply_to_id=comment), 404, "in_reply_to_id")
    author.ask("DELETE", f"/api/v1/statuses/{post}")
    refused(person.post(f"/api/v1/statuses/{post}/favourite"), 404, "id")
    refused(person.post(f"/api/v1/statuses/{post}/unfavourite"), 404, "id")
    refused(person.publish("too late", in_reply_to_id=post), 404, "in_reply_to_id")
    refused(person.publish("to a user", in_reply_to_id=author.id), 404, "in_reply_to_id")


def test_anothers_post_and_comment_are_not_ours_to_delete(server: Server, person: Person) -> None:
    author, third = server.person(), server.person()
    post = author.published()
    comment = third.published("c", in_reply_to_id=post)
    refused(person.ask("DELETE", f"/api/v1/statuses/{post}"), 403, "id")
    refused(person.ask("DELETE", f"/api/v1/statuses/{comment}"), 403, "id")
    assert author.status(post)["replies_count"] == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 422), (b"not an image", 422), (picture()[:900], 422), (picture() + b"x" * 200_000, 413)],
)
def test_a_file_that_is_no_photo_is_refused(person: Person, data: bytes, status: int) -> None:
    refused(person.upload(data), status, "file")


def test_an_upload_without_a_file_or_with_a_long_description_is_422(person: Person) -> None:
    refused(person.ask("POST", "/api/v2/media", data={"description": "a"}), 422, "file")
    refused(person.upload(description="x" * 1501), 422, "description")
    refused(person.ask("POST", "/api/v2/media", json={"file": "x"}), 422, "file")


def test_a_rendition_that_is_not_there_is_404(server: Server) -> None:
    for path in (
        "x/full.jpg",
        f"{'0' * 64}/full.jpg",
        f"{'0' * 64}/original",
        f"{'0' * 64}/full.png",
        "%2e%2e/full.jpg",
    ):
        refused(server.client.get(f"/media/{path}"), 404)


def test_routes_that_are_not_there_answer_in_json_too(server: Server) -> None:
    refused(server.client.get("/api/v1/nothing"), 404)
    refused(server.client.get("/web/../settings.py"), 404)
    answer: httpx.Response = server.client.put("/api/v1/statuses/1")
    refused(answer, 405)
    assert answer.headers["allow"]


def test_profiles_have_limits(person: Person) -> None:
    path = "/api/v1/accounts/update_credentials"
    refused(person.ask("PATCH", path, json={"display_name": "x" * 101}), 422, "display_name")
    refused(person.ask("PATCH", path, json={"note": "x" * 501}), 422, "note")
    refused(person.get("/api/v1/accounts/lookup"), 422, "acct")
    refused(person.get("/api/v1/accounts/lookup", acct="nobody@elsewhere"), 404, "acct")
    refused(person.get("/api/v1/accounts/lookup", acct="nobody_at_all"), 404, "acct")
    refused(person.get("/api/v1/accounts/relationships", id="x"), 400, "id")
    refused(person.get("/api/v1/accounts/relationships", id=list(range(1, 50))), 400, "id")


def test_of_an_append_whose_outcome_is_unknown_nobody_is_told_to_repeat_it() -> None:
    told = refusal_of(OutcomeUnknown("Kafka at 192.0.2.1 did not acknowledge an append"))
    assert told is not None
    assert (told.status, told.field) == (503, None)
    assert told.error.startswith("it is not known whether this was stored; look before sending it again")
