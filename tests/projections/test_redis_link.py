"""How Redis is asked: its address, its deadline, and what is done after it failed."""

import uuid
from dataclasses import replace

import pytest
from redis import ConnectionError as ConnectionLost
from redis import Redis
from services.services import Services

from darkroom.projections.redis_link import RedisAddress, RedisLink, UnfitRedis, check_fit


@pytest.fixture
def address(service: Services) -> RedisAddress:
    where = service("redis")
    return RedisAddress(where["host"], where["port"], f"test:{uuid.uuid4().hex}")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.services
def test_after_a_failure_redis_is_left_alone_for_a_while(address: RedisAddress) -> None:
    clock, asked = Clock(), list[float]()
    link = RedisLink(replace(address, deadline_s=0.05, pauses=20), 0.05, clock)

    def ask(*, at_s: float, fails: bool) -> int | None:
        clock.now_s = at_s

        def work(_: Redis) -> int:
            asked.append(at_s)
            if fails:
                raise ConnectionLost
            return 1

        return link.ask(work)

    assert ask(at_s=0.0, fails=False) == 1
    assert ask(at_s=1.0, fails=True) is None
    assert ask(at_s=1.5, fails=False) is None
    assert ask(at_s=2.1, fails=True) is None
    assert ask(at_s=3.0, fails=False) is None
    assert ask(at_s=3.2, fails=False) == 1
    assert ask(at_s=3.2, fails=False) == 1
    assert asked == [0.0, 1.0, 2.1, 3.2, 3.2]
    assert link.failures == 2


@pytest.mark.services
def test_after_a_failure_one_thread_tries_first(address: RedisAddress) -> None:
    clock = Clock()
    link = RedisLink(replace(address, pauses=20), 0.05, clock)
    assert link.ask(lambda _: _fail()) is None
    clock.now_s = 2.0
    answers = list[int | None]()

    def first(_: Redis) -> int:
        answers.append(link.ask(lambda _: 2))
        return 1

    assert link.ask(first) == 1
    assert answers == [None]
    assert link.ask(lambda _: 3) == 3


def _fail() -> None:
    raise ConnectionLost


@pytest.mark.services
def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(address: RedisAddress) -> None:
    link = RedisLink(address, address.deadline_s)
    connection = link.ask(lambda client: client.client_id())
    with Redis(address.host, address.port) as client:
        assert client.client_kill_filter(_id=str(connection)) == 1
    assert link.ask(lambda client: client.ping()) is True
    assert link.failures == 0
    link.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": 0}, "is no address of Redis"),
        ({"host": ""}, "is no address of Redis"),
        ({"prefix": "a{b"}, "prefix 'a{b' must be"),
        ({"db": -1}, "must be 0 or more"),
        ({"pauses": -1}, "must be 0 or more"),
        ({"deadline_s": 0.0}, "must be above 0"),
    ],
)
def test_what_can_be_no_address_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RedisAddress(**({"host": "127.0.0.1", "port": 6379, "prefix": "darkroom"} | changes))  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    assert "hidden" not in repr(RedisAddress("127.0.0.1", 6379, "darkroom", password="hidden"))


@pytest.mark.services
def test_a_redis_that_answers_is_fit_and_one_that_does_not_is_no_error(address: RedisAddress) -> None:
    assert check_fit(address)
    assert not check_fit(replace(address, port=1))


@pytest.mark.services
def test_wrong_credentials_are_named(address: RedisAddress) -> None:
    with pytest.raises(UnfitRedis, match="set its user and password"):
        check_fit(replace(address, user="nobody", password="wrong"))


@pytest.mark.services
def test_a_database_that_is_not_there_is_named(address: RedisAddress) -> None:
    with pytest.raises(UnfitRedis, match="DB index is out of range"):
        check_fit(replace(address, db=9999))
