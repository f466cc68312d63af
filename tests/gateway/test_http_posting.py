"""What an Idempotency-Key promises for ever, and what a write is answered while the shards are behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .http_client import PASSWORD, Person, Server, refused, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("http") / "data", "--setting", "shards", "2") as running:
        yield running


def test_a_repeated_key_gives_the_same_post_for_ever(server: Server) -> None:
    author, other = server.person(), server.person()
    first = author.publish("once", key="k")
    again = author.publish("once more, and other words", key="k")
    assert (again.status_code, again.json()) == (200, first.json())
    assert author.home() == [first.json()["id"]]
    assert other.publish("another's key is another key", key="k").json()["id"] != first.json()["id"]
    author.ask("DELETE", f"/api/v1/statuses/{first.json()['id']}")
    for _ in range(2):
        refused(author.publish("once", key="k"), 410, "Idempotency-Key")
    assert author.home() == []


def test_a_repeated_key_gives_the_same_comment_on_the_same_post(server: Server) -> None:
    author, writer = server.person(), server.person()
    post, other_post = author.published(), author.published()
    first = writer.publish("once", key="k", in_reply_to_id=post).json()
    assert writer.publish("once", key="k", in_reply_to_id=post).json() == first
    assert writer.publish("twice", key="k", in_reply_to_id=first["id"]).json() == first, "a reply is on the same post"
    assert writer.publish("elsewhere", key="k", in_reply_to_id=other_post).json()["id"] != first["id"]
    assert writer.publish("a post has keys of its own", key="k").json()["in_reply_to_id"] is None
    assert author.status(post)["replies_count"] == 1
    writer.ask("DELETE", f"/api/v1/statuses/{first['id']}")
    refused(writer.publish("once", key="k", in_reply_to_id=post), 410, "Idempotency-Key")
    author.ask("DELETE", f"/api/v1/statuses/{post}")
    refused(writer.publish("once", key="k", in_reply_to_id=post), 410, "Idempotency-Key")
    refused(writer.publish("new", key="new", in_reply_to_id=post), 404, "in_reply_to_id")


def test_a_key_repeated_at_once_gives_one_post_to_all(server: Server) -> None:
    author = server.person()
    media_id = author.upload().json()["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: author.publish("one", key="race", media_ids=[media_id]), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    [post] = {answer.json()["id"] for answer in answers}
    assert author.home() == [post]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: author.publish("c", key="race", in_reply_to_id=post), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert author.status(post)["replies_count"] == 1


def test_every_write_names_a_position_at_which_it_can_be_read(server: Server) -> None:
    author, follower = server.person(), server.person()
    follower.follow(author)
    for number in range(20):
        written = author.publish(f"{number}")
        position = written.headers["darkroom-position"]
        read = follower.ask("GET", f"/api/v1/timelines/home?limit=1&min_position={position}")
        assert read.json()[0]["id"] == written.json()["id"]
        assert int(read.headers["darkroom-position"]) >= int(position)


def test_an_id_can_be_read_as_soon_as_it_is_known(server: Server) -> None:
    author, stranger = server.person(), server.anybody()
    for _ in range(20):
        post = author.published()
        assert stranger.ask("GET", f"/api/v1/statuses/{post}").json()["id"] == post


def test_a_position_that_is_not_reached_in_time_is_503(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--setting", "read_wait_ms", "50") as server:
        person = server.person()
        late = person.ask("GET", f"/api/v1/timelines/home?min_position={server.position + 1}")
        refused(late, 503)
        assert late.headers["retry-after"] == "1"
        assert person.ask("GET", f"/api/v1/timelines/home?min_position={server.position}").status_code == 200


def test_a_write_that_cannot_be_read_yet_is_202_or_with_a_key_503(tmp_path: Path) -> None:
    waits = ("--setting", "write_wait_ms", "20", "--setting", "read_wait_ms", "100")
    with served(tmp_path / "data", *waits) as server:
        person, other = server.person(), server.person()
        post, other_id = person.published(), other.id
        token, other_token = person.token, other.token
    with served(tmp_path / "data", *waits, "--idle") as server:
        person, other = Person(server, "", token), Person(server, "", other_token)
        accepted = person.publish("no key")
        assert accepted.status_code == 202
        assert accepted.json() == {"position": accepted.headers["darkroom-position"]}
        stored = person.publish("with a key", key="late")
        refused(stored, 503)
        assert stored.headers["retry-after"] == "1"
        assert stored.json()["position"] == stored.headers["darkroom-position"]
        refused(person.publish("with a key", key="late"), 503)
        for answer in (
            person.post(f"/api/v1/statuses/{post}/favourite"),
            person.post(f"/api/v1/statuses/{accepted.json()['position']}/favourite"),
            person.publish("a comment on it", in_reply_to_id=accepted.json()["position"]),
            person.post(f"/api/v1/accounts/{other_id}/follow"),
            other.ask("PATCH", "/api/v1/accounts/update_credentials", json={"note": "late"}),
            server.client.post("/api/v1/accounts", json={"username": "late_comer", "password": PASSWORD}),
        ):
            assert answer.status_code == 202, answer.text
    with served(tmp_path / "data") as server:
        person, other = Person(server, "", token), Person(server, "", other_token)
        server.position = int(server.client.get("/api/darkroom/v1/status").json()["head"])
        repeated = person.publish("with a key", key="late").json()
        assert repeated["id"] == stored.json()["position"]
        assert person.home() == [repeated["id"], accepted.json()["position"], post]
        assert person.status(post)["favourited"] is True
        assert person.relationship(other)["following"] is True
        assert other.get("/api/v1/accounts/verify_credentials").json()["source"]["note"] == "late"
        settled = sign_in_once_settled(server, "late_comer")
        assert settled.get("/api/v1/accounts/verify_credentials").json()["acct"] == "late_comer"


def sign_in_once_settled(server: Server, name: str) -> Person:
    """The start settles what is pending once the shards are where the log was; until then there is no password."""
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    for _ in range(1000):
        answer = server.client.post("/oauth/token", data=form)
        if answer.status_code == 200:
            return Person(server, name, answer.json()["access_token"])
    raise AssertionError(answer.text)


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        author, follower = server.person("author"), server.person("follower")
        follower.follow(author)
        media_id = author.upload(description="kept").json()["id"]
        posts = [author.published(f"{number}", media_ids=[media_id]) for number in range(5)]
        later_id = author.upload(description="not posted yet").json()["id"]
        liked = follower.post(f"/api/v1/statuses/{posts[0]}/favourite")
        position = server.position
        with ThreadPoolExecutor(4) as pool:
            racing = [pool.submit(author.publish, f"racing {number}", key=f"r{number}") for number in range(40)]
            acknowledged = [racing[0].result().json()["id"]]
            server.kill()
            for future in racing[1:]:
                if future.exception() is None and future.result().status_code == 200:
                    acknowledged.append(future.result().json()["id"])
    assert liked.status_code == 200
    with served(tmp_path / "data") as server:
        author, follower = Person(server, "author", author.token), Person(server, "follower", follower.token)
        server.position = max(position, *map(int, acknowledged))
        feed = follower.home(limit=40)
        assert set(posts) | set(acknowledged) <= set(feed)
        assert author.status(posts[0])["favourites_count"] == 1
        [medium] = author.status(posts[0])["media_attachments"]
        assert (medium["description"], server.client.get(medium["url"]).status_code) == ("kept", 200)
        assert author.get(f"/api/v1/media/{later_id}").json()["description"] == "not posted yet"
        author.published("and on it goes", media_ids=[later_id])
        assert (
            server.client.post("/api/v1/accounts", json={"username": "AUTHOR", "password": PASSWORD}).status_code == 409
        )
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "stopped\n", "a signal ends it as if it had come to its end"


def test_a_full_disk_is_507_and_what_was_acknowledged_is_there_when_there_is_room(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        author = server.person()
    log_bytes = (tmp_path / "data/log/data.mdb").stat().st_size
    with served(
        tmp_path / "data", "--file-bytes", str(log_bytes + 200_000), "--setting", "write_wait_ms", "0"
    ) as server:
        author = Person(server, author.name, author.token)
        positions = []
        for number in range(10_000):
            answer = author.publish(f"{number} " + "x" * 2000)
            if answer.status_code == 507:
                break
            positions.append(answer.headers["darkroom-position"])
        refused(answer, 507)
        assert "darkroom-position" not in answer.headers
        assert len(positions) > 10
        status = server.client.get("/api/darkroom/v1/status").json()
        assert int(status["head"]) == int(positions[-1]), "reads go on, and nothing of the refused is there"
    with served(tmp_path / "data") as server:
        author = Person(server, author.name, author.token)
        server.position = int(positions[-1])
        assert author.home() == positions[::-1][:20]
        assert author.published("there is room again")


def test_a_read_says_when_a_shard_lags_and_then_asks_no_position_of_the_next_page(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        author = server.person()
        posts = [author.published(f"{number}") for number in range(3)]
        answer = author.get("/api/v1/timelines/home")
        assert "darkroom-lagging" not in answer.headers
    waits = ("--setting", "max_read_lag_ms", "0", "--setting", "read_wait_ms", "200", "--setting", "write_wait_ms", "0")
    with served(tmp_path / "data", *waits, "--idle") as server:
        author = Person(server, author.name, author.token)
        late = author.publish("nobody folds this")
        assert late.status_code == 202
        answer = author.ask("GET", "/api/v1/timelines/home?limit=2")
        assert [status["id"] for status in answer.json()] == posts[:0:-1]
        assert answer.headers["darkroom-lagging"] == "true"
        assert "min_position" not in answer.headers["link"]
        refused(author.get("/api/v1/timelines/home"), 503)
        refused(author.ask("GET", f"/api/v1/statuses/{late.json()['position']}"), 503)
        status = server.client.get("/api/darkroom/v1/status").json()
        assert status["lag"] == 1


def test_a_repeated_reply_is_the_first_one_whatever_became_of_what_it_replies_to(server: Server) -> None:
    author, writer = server.person(), server.person()
    post = author.published()
    parent = author.publish("first", in_reply_to_id=post).json()["id"]
    reply = writer.publish("second", key="reply", in_reply_to_id=parent).json()
    author.ask("DELETE", f"/api/v1/statuses/{parent}")
    assert writer.publish("second", key="reply", in_reply_to_id=parent).json()["id"] == reply["id"]


def test_a_repeated_comment_is_the_first_one_when_a_block_stands_since(server: Server) -> None:
    author, writer = server.person(), server.person()
    post = author.published()
    first = writer.publish("once", key="k", in_reply_to_id=post).json()
    writer.post(f"/api/v1/accounts/{author.id}/block")
    again = writer.publish("once", key="k", in_reply_to_id=post)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])


def test_pages_of_people_keep_to_both_their_bounds(server: Server) -> None:
    author, *fans = (server.person() for _ in range(4))
    post = author.published()
    for fan in fans:
        fan.post(f"/api/v1/statuses/{post}/favourite")
        fan.follow(author)
    for path in (f"/api/v1/statuses/{post}/favourited_by", f"/api/v1/accounts/{author.id}/followers"):
        between = author.get(path, min_id=fans[0].id, max_id=fans[2].id).json()
        assert [person["id"] for person in between] == [fans[1].id]
