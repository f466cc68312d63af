"""What the settings say of servers, as their clients are told it; nobody is asked."""

from pathlib import Path

import pytest

from darkroom.events.log_adapters.kafka_address import LastComplaint
from darkroom.gateway.servers import cassandra_address, kafka_address, redis_address
from darkroom.gateway.settings import SettingsError, load_settings

KAFKA = {"kafka": "here:9092"}
LOGIN = {"kafka_user": "ada", "kafka_password": "sesame"}


def security(**settings: str) -> dict[str, str]:
    """Of librdkafka's configuration, what has to do with security."""
    address = kafka_address(load_settings(KAFKA | settings, {}, None))
    assert address is not None
    told = address.settings(LastComplaint())
    return {name: value for name, value in told.items() if name.startswith(("security.", "sasl.", "ssl."))}


def test_kafka_is_spoken_to_as_the_settings_say(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    assert security() == {}
    assert security(kafka_protocol="ssl") == {"security.protocol": "ssl"}
    assert security(kafka_protocol="ssl", kafka_ca=str(authority)) == {
        "security.protocol": "ssl",
        "ssl.ca.location": str(authority),
    }
    login = {"sasl.mechanism": "PLAIN", "sasl.username": "ada", "sasl.password": "sesame"}
    assert security(kafka_protocol="sasl_plaintext", **LOGIN) == {"security.protocol": "sasl_plaintext"} | login
    assert security(
        kafka_protocol="sasl_ssl", kafka_mechanism="SCRAM-SHA-512", kafka_ca=str(authority), **LOGIN
    ) == login | {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "ssl.ca.location": str(authority),
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (LOGIN, "kafka_user: with kafka_protocol plaintext nobody logs in; name sasl_ssl or sasl_plaintext"),
        ({"kafka_protocol": "ssl", "kafka_password": "sesame"}, "kafka_password: with kafka_protocol ssl nobody"),
        ({"kafka_protocol": "sasl_ssl"}, "kafka_protocol: sasl_ssl needs kafka_user and kafka_password: name both"),
        ({"kafka_protocol": "sasl_ssl", "kafka_user": "ada"}, "needs kafka_user and kafka_password"),
        ({"kafka_ca": "/etc/ca.pem"}, "kafka_ca: with kafka_protocol plaintext there are no certificates"),
        (
            {"kafka_protocol": "sasl_plaintext", "kafka_ca": "/etc/ca.pem"} | LOGIN,
            "kafka_ca: with kafka_protocol sasl_",
        ),
        ({"kafka_protocol": "ssl", "kafka_ca": "/no/such/ca.pem"}, "kafka_ca: there is no file /no/such/ca.pem"),
        ({"kafka_protocol": "SSL"}, "kafka_protocol must be plaintext or ssl or sasl_plaintext or sasl_ssl"),
        ({"kafka_mechanism": "GSSAPI"}, "kafka_mechanism must be PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({"kafka_ca": "ca.pem"}, "kafka_ca must be a file's full path"),
    ],
)
def test_what_kafka_would_not_heed_is_refused_by_name(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        security(**settings)
    assert "sesame" not in str(refusal.value)


def test_cassandra_is_asked_in_its_datacenter_and_keeps_its_copies_there() -> None:
    everywhere = cassandra_address(load_settings({"cassandra": "here:9042", "cassandra_replication": 3}, {}, None))
    assert everywhere is not None
    assert (everywhere.local_datacenter, everywhere.replication) == (None, 3)
    settings = {"cassandra": "here:9042", "cassandra_replication": 3, "cassandra_datacenter": "eu-west-1"}
    local = cassandra_address(load_settings(settings, {}, None))
    assert local is not None
    assert (local.local_datacenter, local.replication) == ("eu-west-1", {"eu-west-1": 3})
    with pytest.raises(SettingsError, match="cassandra_datacenter must be 1 to 48 letters"):
        load_settings({"cassandra_datacenter": "x', 'y"}, {}, None)


def test_redis_is_told_who_logs_in() -> None:
    address = redis_address(load_settings({"redis": "here:6379", "redis_user": "ada"}, {}, None))
    assert address is not None
    assert address.user == "ada"
