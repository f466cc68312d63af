"""Where the log's topic is, how its servers are reached, and the errors that say what is wrong with them.

Nothing here opens a connection: an address is a plain value that travels to other processes.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError

from darkroom.events.log import LogStopped

DEADLINE_S = 10.0
DEADLINE_S_MIN, DEADLINE_S_MAX = 1.0, 600.0

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SECURITY = re.compile(r"(security\.protocol|sasl\.[a-z.]+|ssl\.[a-z.]+|enable\.ssl\.certificate\.verification)")


_TO_MEND = {
    KafkaError._AUTHENTICATION: "user, password and mechanism",
    KafkaError._SSL: "the protocol, or the certificates",
}


class TopicRefused(LogStopped):
    """The topic cannot be this log, or can no longer be; the message says why and what to do. Nothing was written."""


@dataclass(frozen=True)
class KafkaAddress:
    """`servers` is `host:port,host:port`; `security` has librdkafka's own names, such as `sasl.username`."""

    servers: str
    topic: str
    deadline_s: float = DEADLINE_S
    security: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for server in self.servers.split(","):
            if not _SERVER.fullmatch(server.strip()):
                raise ValueError(f"Kafka server {server!r} is not of the form host:port")
        if not _TOPIC.fullmatch(self.topic) or self.topic in (".", ".."):
            raise ValueError(f"Kafka topic {self.topic!r}: 1 to 249 letters, digits, dots, underscores and hyphens")
        if not DEADLINE_S_MIN <= self.deadline_s <= DEADLINE_S_MAX:
            raise ValueError(
                f"Kafka deadline {self.deadline_s:g} s is not from {DEADLINE_S_MIN:g} to {DEADLINE_S_MAX:g}"
            )
        for name, _ in self.security:
            if not _SECURITY.fullmatch(name):
                raise ValueError(f"Kafka setting {name!r} is none of security.protocol, sasl.… and ssl.…")

    def settings(self, said: "LastComplaint", **more: Any) -> dict[str, Any]:
        """What every client of these servers is made with."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": "darkroom",
            "error_cb": said,
            "log_level": 0,  # whatever goes wrong is raised, by name
            "allow.auto.create.topics": False,
            "socket.keepalive.enable": True,
            # An answer that does not come is asked for again, on another connection, before the caller's time is up.
            "socket.timeout.ms": int(max(self.deadline_s, 4.0) * 500),
            "reconnect.backoff.max.ms": 1000,  # librdkafka's 10 s would double a short outage
            **dict(self.security),
            **{name.replace("_", "."): value for name, value in more.items()},
        }


class LastComplaint:
    """librdkafka says why it cannot connect to a callback only; a call just times out. This keeps the last one."""

    def __init__(self) -> None:
        self._said: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # which says less than what came before it
            self._said = error

    @property
    def to_mend(self) -> str | None:
        """What the servers refuse us for, None where they do not."""
        return None if self._said is None else _TO_MEND.get(self._said.code())

    def __str__(self) -> str:
        return "" if self._said is None else f" ({self._said.str()})"
