"""The gateway through a real server: signing up, posting, feeds, likes, comments, and who may see what."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image

from .http_client import PASSWORD, Person, Server, flat, link, picture, refused, served, walk


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("http") / "data", "--setting", "shards", "3") as running:
        yield running


def test_signing_up_gives_a_token_that_works_at_once(server: Server) -> None:
    answer = server.client.post(
        "/api/v1/accounts", data={"username": "Ada_1", "password": PASSWORD, "email": "a@b", "agreement": "true"}
    )
    assert answer.status_code == 200
    token = answer.json()
    assert set(token) == {"access_token", "token_type", "scope", "created_at"}
    assert (token["token_type"], token["scope"]) == ("Bearer", "read write follow push")
    ada = Person(server, "ada_1", token["access_token"])
    account = ada.get("/api/v1/accounts/verify_credentials").json()
    assert (account["acct"], account["display_name"], account["id"]) == (
        "ada_1",
        "Ada_1",
        answer.headers["darkroom-position"],
    )
    assert account["source"]["note"] == ""
    refused(server.client.post("/api/v1/accounts", json={"username": "ADA_1", "password": PASSWORD}), 409, "username")


def test_of_two_who_sign_up_under_one_name_at_once_one_gets_it_and_the_other_is_deleted(server: Server) -> None:
    def sign_up(number: int) -> Any:
        return server.client.post("/api/v1/accounts", json={"username": f"Race{number // 2}", "password": PASSWORD})

    before = server.person().id
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(sign_up, range(16)))
    for one, other in zip(answers[::2], answers[1::2], strict=True):
        assert sorted((one.status_code, other.status_code)) == [200, 409]
        refused(max(one, other, key=lambda answer: answer.status_code), 409, "username")
    for answer in answers:
        server.note(answer)
    last = server.person()
    named = []
    for user in range(int(before) + 1, int(last.id)):
        answer = last.get(f"/api/v1/accounts/{user}")
        if answer.status_code == 200:
            named.append(answer.json()["acct"])
    assert sorted(named) == [f"race{number}" for number in range(8)], "the nameless are deleted"


def test_signing_in_and_out(server: Server) -> None:
    server.person("Signer")
    form = {"grant_type": "password", "username": "sIGNER", "password": PASSWORD, "scope": "read write:media"}
    answer = server.client.post("/oauth/token", data=form)
    assert answer.json()["scope"] == "read write:media"
    again = Person(server, "signer", answer.json()["access_token"])
    assert again.get("/api/v1/accounts/verify_credentials").json()["acct"] == "signer"
    refused(again.publish("outside the token's scope"), 403)
    assert again.upload().status_code == 200
    assert again.post("/oauth/revoke", {"token": again.token}).status_code == 200
    refused(again.get("/api/v1/accounts/verify_credentials"), 401)
    wrong = refused(server.client.post("/oauth/token", data=form | {"password": "wrong password"}), 400, "username")
    assert wrong == "invalid_grant"
    assert refused(server.client.post("/oauth/token", data=form | {"scope": "admin"}), 400, "scope") == "invalid_scope"
    refused(server.client.post("/oauth/token", data=form | {"grant_type": "password2"}), 400, "grant_type")


def test_a_profile_is_changed_field_by_field(server: Server) -> None:
    person = server.person()
    changed = person.ask(
        "PATCH", "/api/v1/accounts/update_credentials", data={"display_name": "Zoë", "note": "a <b>\n"}
    )
    assert changed.json()["display_name"] == "Zoë"
    assert changed.json()["note"] == "<p>a &lt;b&gt;<br /></p>"
    again = person.ask("PATCH", "/api/v1/accounts/update_credentials", json={"display_name": "Z"}).json()
    assert (again["display_name"], again["source"]["note"]) == ("Z", "a <b>\n")
    assert server.anybody().get("/api/v1/accounts/lookup", acct=f"@{person.name}").json()["display_name"] == "Z"


def test_a_post_with_a_photo_reaches_a_follower_and_carries_no_metadata(server: Server) -> None:
    author, follower = server.person(), server.person()
    assert follower.follow(author).json()["following"] is True
    exif = Image.Exif()
    exif[0x010E] = "MARKER-47.3769-8.5417"
    uploaded = author.upload(picture(exif=exif.tobytes(), comment=b"MARKER-47"), description="réd & green").json()
    assert (uploaded["type"], uploaded["description"]) == ("image", "réd & green")
    post = author.published(f"Hello @{follower.name} #Sun", media_ids=[uploaded["id"]])
    [seen] = follower.get("/api/v1/timelines/home").json()
    assert (seen["id"], seen["account"]["acct"]) == (post, author.name)
    assert abs(datetime.fromisoformat(seen["created_at"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert [tag["name"] for tag in seen["tags"]] == ["sun"]
    assert [mention["acct"] for mention in seen["mentions"]] == [follower.name]
    assert f"/@{follower.name}" in seen["content"]
    [medium] = seen["media_attachments"]
    assert (medium["meta"]["original"]["size"], medium["description"]) == ("64x48", "réd & green")
    assert medium["blurhash"] == uploaded["blurhash"]
    for url in (medium["url"], medium["preview_url"], medium["url"].replace("full", "thumbnail")):
        image = server.client.get(url)
        assert image.headers["content-type"] == "image/jpeg"
        assert image.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in image.headers["content-security-policy"]
        assert "immutable" in image.headers["cache-control"]
        assert b"MARKER" not in image.content
        assert Image.open(io.BytesIO(image.content)).format == "JPEG"
        assert server.client.get(url, headers={"If-None-Match": image.headers["etag"]}).status_code == 304


def test_an_upload_is_its_owners_alone(server: Server) -> None:
    owner, other = server.person(), server.person()
    media_id = owner.upload(path="/api/v1/media").json()["id"]
    changed = owner.ask("PUT", f"/api/v1/media/{media_id}", json={"description": "now described"})
    assert changed.json()["description"] == "now described"
    assert owner.get(f"/api/v1/media/{media_id}").json() == changed.json()
    refused(other.get(f"/api/v1/media/{media_id}"), 404, "id")
    refused(other.ask("PUT", f"/api/v1/media/{media_id}", json={"description": "mine"}), 404, "id")
    refused(other.publish("not mine", media_ids=[media_id]), 422, "media_ids")
    assert owner.get(f"/api/v1/media/{media_id}").json()["description"] == "now described"


def test_walking_the_links_gives_every_post_once_and_in_order(server: Server) -> None:
    reader, authors = server.person(), [server.person() for _ in range(3)]
    for author in authors:
        reader.follow(author)
    everything = [authors[number % 3].published(f"post {number}") for number in range(23)]
    home = "/api/v1/timelines/home"
    pages = walk(reader, home, limit=5)
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
    assert flat(pages) == everything[::-1]
    assert reader.home() == everything[::-1][:20], "twenty unless told"
    first = reader.get(home, limit=3)
    assert first.headers["link"].index('rel="next"') < first.headers["link"].index('rel="prev"')
    assert f"max_id={everything[-3]}&min_position=" in (link(first, "next") or "")
    upwards = walk(reader, home, relation="prev", limit=4, min_id=0)
    assert [post for page in upwards for post in page[::-1]] == everything
    timeline = walk(reader, f"/api/v1/accounts/{authors[0].id}/statuses", limit=3)
    assert flat(timeline) == everything[::3][::-1]


def test_since_id_is_the_newest_page_above_and_min_id_the_one_just_above(server: Server) -> None:
    author = server.person()
    posts = [author.published(f"post {number}") for number in range(8)]
    assert author.home(since_id=posts[1], limit=3) == posts[:4:-1]
    assert author.home(min_id=posts[1], limit=3) == [posts[4], posts[3], posts[2]]
    assert author.home(min_id=posts[1], max_id=posts[3]) == [posts[2]]
    assert author.home(max_id=posts[0]) == []
    assert author.home(limit=1000) == posts[::-1], "a limit over the highest is the highest"
    assert author.home(max_id="9" * 20) == posts[::-1]
    assert "link" not in author.get("/api/v1/timelines/home", max_id=posts[0]).headers


def test_a_page_looked_at_again_is_of_the_same_window_and_host(server: Server) -> None:
    author = server.person()
    posts = [author.published(f"post {number}") for number in range(4)]
    for _ in range(2):
        for window, shown in (({}, posts[::-1]), ({"limit": 2}, posts[:1:-1]), ({"max_id": posts[2]}, posts[1::-1])):
            for _ in range(3):
                assert author.home(**window) == shown
        for host in ("one.test", "two.test:81"):
            answer = author.ask("GET", "/api/v1/timelines/home", headers={"Host": host})
            assert [post["url"].split("/")[2] for post in answer.json()] == [host] * 4
            assert f"//{host}/" in answer.headers["link"]
    newest = author.published("post 4")
    assert author.home() == [newest, *posts[::-1]]


def test_followers_and_following_are_paged(server: Server) -> None:
    star, fans = server.person(), [server.person() for _ in range(5)]
    for fan in fans:
        fan.follow(star)
    ids = [fan.id for fan in fans]
    pages = walk(server.anybody(), f"/api/v1/accounts/{star.id}/followers", limit=2)
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    above = server.anybody().get(f"/api/v1/accounts/{star.id}/followers", min_id=ids[1], limit=2).json()
    assert [account["id"] for account in above] == [ids[3], ids[2]]
    assert walk(star, f"/api/v1/accounts/{fans[0].id}/following") == [[star.id]]
    account = star.get(f"/api/v1/accounts/{star.id}").json()
    assert (account["followers_count"], account["following_count"]) == (5, 0)


def test_likes_are_counted_listed_and_taken_back(server: Server) -> None:
    author, liker = server.person(), server.person()
    post = author.published()
    for _ in range(2):
        liked = liker.post(f"/api/v1/statuses/{post}/favourite")
        assert (liked.status_code, liked.json()["favourites_count"], liked.json()["favourited"]) == (200, 1, True)
    assert author.post(f"/api/v1/statuses/{post}/favourite").json()["favourites_count"] == 2
    by = author.get(f"/api/v1/statuses/{post}/favourited_by").json()
    assert [account["acct"] for account in by] == [liker.name, author.name]
    for _ in range(2):
        back = liker.post(f"/api/v1/statuses/{post}/unfavourite").json()
        assert (back["favourites_count"], back["favourited"]) == (1, False)


def test_comments_replies_and_the_tombstone_of_a_deleted_one(server: Server) -> None:
    author, writer = server.person(), server.person()
    post = author.published()
    comment = writer.publish("first", in_reply_to_id=post).json()
    assert (comment["in_reply_to_id"], comment["in_reply_to_account_id"]) == (post, author.id)
    reply = author.publish("second", in_reply_to_id=comment["id"]).json()
    assert (reply["in_reply_to_id"], reply["in_reply_to_account_id"]) == (comment["id"], writer.id)
    other = writer.published("third", in_reply_to_id=post)
    assert author.status(post)["replies_count"] == 3
    assert author.status(comment["id"])["replies_count"] == 1
    context = writer.get(f"/api/v1/statuses/{post}/context").json()
    assert [status["id"] for status in context["descendants"]] == [comment["id"], reply["id"], other]
    assert context["ancestors"] == []
    context = writer.get(f"/api/v1/statuses/{reply['id']}/context").json()
    assert [status["id"] for status in context["ancestors"]] == [post, comment["id"]]
    context = writer.get(f"/api/v1/statuses/{comment['id']}/context").json()
    assert [status["id"] for status in context["descendants"]] == [reply["id"]]
    assert writer.ask("DELETE", f"/api/v1/statuses/{comment['id']}").json()["text"] == "first"
    refused(writer.get(f"/api/v1/statuses/{comment['id']}"), 404, "id")
    tombstone, kept, _ = writer.get(f"/api/v1/statuses/{post}/context").json()["descendants"]
    assert (tombstone["id"], tombstone["deleted"], tombstone["content"]) == (comment["id"], True, "")
    assert tombstone["account"]["acct"] == "deleted"
    assert kept["in_reply_to_id"] == comment["id"]
    assert author.ask("DELETE", f"/api/v1/statuses/{reply['id']}").status_code == 200
    context = writer.get(f"/api/v1/statuses/{post}/context").json()
    assert [status["id"] for status in context["descendants"]] == [other], "nothing hangs on the tombstone any more"
    assert author.ask("DELETE", f"/api/v1/statuses/{other}").status_code == 200, "a post's author may, too"
    assert author.status(post)["replies_count"] == 0


def test_deleting_a_post_takes_it_from_every_feed(server: Server) -> None:
    author, follower = server.person(), server.person()
    follower.follow(author)
    posts = [author.published(f"{number}") for number in range(3)]
    deleted = author.ask("DELETE", f"/api/v1/statuses/{posts[1]}")
    assert (deleted.status_code, deleted.json()["id"], deleted.json()["text"]) == (200, posts[1], "1")
    assert follower.home() == [posts[2], posts[0]]
    refused(follower.get(f"/api/v1/statuses/{posts[1]}"), 404, "id")
    refused(author.ask("DELETE", f"/api/v1/statuses/{posts[1]}"), 404, "id")
    assert author.get("/api/v1/accounts/verify_credentials").json()["statuses_count"] == 2


def test_a_block_hides_and_a_mute_only_silences(server: Server) -> None:
    author, blocked, muter = server.person(), server.person(), server.person()
    blocked.follow(author)
    muter.follow(author)
    post = author.published()
    comment = blocked.published("before the block", in_reply_to_id=post)
    answer = author.post(f"/api/v1/accounts/{blocked.id}/block").json()
    assert (answer["blocking"], answer["followed_by"]) == (True, False)
    assert blocked.relationship(author)["blocked_by"] is True
    assert blocked.home() == []
    for path in ("", "/context", "/favourited_by"):
        refused(blocked.get(f"/api/v1/statuses/{post}{path}"), 404, "id")
    for path in ("statuses", "followers", "following"):
        refused(blocked.get(f"/api/v1/accounts/{author.id}/{path}"), 404, "id")
    refused(blocked.post(f"/api/v1/statuses/{post}/favourite"), 404, "id")
    refused(blocked.publish("hello", in_reply_to_id=post), 404, "in_reply_to_id")
    refused(blocked.follow(author), 403, "id")
    refused(author.follow(blocked), 403, "id")
    assert author.get(f"/api/v1/statuses/{post}/context").json()["descendants"] == []
    [shown] = muter.get(f"/api/v1/statuses/{post}/context").json()["descendants"]
    assert shown["id"] == comment
    assert author.post(f"/api/v1/accounts/{blocked.id}/unblock").json()["blocking"] is False
    assert blocked.status(post)["id"] == post
    assert blocked.home() == [], "lifting it restores nothing"
    assert muter.post(f"/api/v1/accounts/{author.id}/mute").json()["muting"] is True
    assert muter.home() == []
    assert muter.status(post)["id"] == post
    muter.post(f"/api/v1/accounts/{author.id}/unmute")
    assert muter.home() == [post]


def test_relationships_are_asked_of_many_at_once(server: Server) -> None:
    one, two, three = server.person(), server.person(), server.person()
    one.follow(two)
    three.follow(one)
    query = f"id[]={two.id}&id[]={three.id}&id[]=1000000000"
    found = one.ask("GET", f"/api/v1/accounts/relationships?{query}&min_position={server.position}").json()
    assert [(each["id"], each["following"], each["followed_by"]) for each in found] == [
        (two.id, True, False),
        (three.id, False, True),
    ]
    assert one.post(f"/api/v1/accounts/{two.id}/unfollow").json()["following"] is False


def test_activity_tells_what_was_done_and_received(server: Server) -> None:
    author, fan = server.person(), server.person()
    post = author.published(f"with @{fan.name}")
    fan.follow(author)
    fan.post(f"/api/v1/statuses/{post}/favourite")
    comment = fan.published("well", in_reply_to_id=post)
    path = "/api/darkroom/v1/activity"
    received = author.get(path).json()
    assert [row["type"] for row in received] == ["comment", "like", "follow"]
    assert {row["account"]["acct"] for row in received} == {fan.name}
    assert [row["id"] for row in author.get(path, max_id=comment, limit=1).json()] == [received[1]["id"]]
    assert [row["type"] for row in fan.get(path).json()] == ["mention"]
    done = fan.get(path, of="done").json()
    assert [row["type"] for row in done] == ["comment", "like", "follow"]
    assert flat(walk(fan, path, of="done", limit=2)) == [row["id"] for row in done]
    refused(fan.get(path, of="everything"), 400, "of")


def test_a_deleted_account_is_gone_with_all_that_was_its(server: Server) -> None:
    leaver, follower = server.person(), server.person()
    follower.follow(leaver)
    user, post = leaver.id, leaver.published()
    refused(leaver.post("/api/darkroom/v1/account/delete", {"password": "wrong password"}), 403, "password")
    assert leaver.post("/api/darkroom/v1/account/delete", {"password": PASSWORD}).status_code == 200
    refused(leaver.get("/api/v1/timelines/home"), 401)
    refused(follower.get(f"/api/v1/accounts/{user}"), 404, "id")
    refused(follower.get(f"/api/v1/statuses/{post}"), 404, "id")
    assert follower.home() == []
    form = {"grant_type": "password", "username": leaver.name, "password": PASSWORD}
    refused(server.client.post("/oauth/token", data=form), 400, "username")
    again = {"username": leaver.name, "password": PASSWORD}
    refused(server.client.post("/api/v1/accounts", json=again), 409, "username")


def test_the_server_describes_itself(server: Server) -> None:
    anybody = server.client
    for path in ("/api/v1/instance", "/api/v1/instance/"):
        assert anybody.get(path).json()["uri"] == f"{server.host}:{server.port}"
    for path in ("/api/v2/instance", "/api/v2/instance/"):
        told = anybody.get(path).json()
        assert told["api_versions"]
        assert (
            told["configuration"]["statuses"] | {"max_characters": 2200, "max_media_attachments": 10}
            == (told["configuration"]["statuses"])
        )
    refused(anybody.get("/.well-known/oauth-authorization-server"), 404)
    assert anybody.get("/health").text == "OK"
    status = anybody.get("/api/darkroom/v1/status").json()
    assert len(status["shards"]) == 3
    assert [shard["fault"] for shard in status["shards"]] == [None] * 3
    assert int(status["head"]) >= server.position
    page = anybody.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in ("/web/app.js", "/web/style.css", "/web/avatar.svg", "/upload", "/@anybody", "/@anybody/1"):
        assert anybody.get(path).status_code == 200
