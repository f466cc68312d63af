"""A real Cassandra that checks what its users may do."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from commands_run import refused
from services.services import PROGRAM, control, own_folder, started

from darkroom.projections.cassandra_session import CassandraAddress, open_session

pytestmark = [pytest.mark.services, pytest.mark.own_servers]

SERVE = ("serve", "--runtime", "inline", "--shards", "1", "--port", "0")


def test_who_may_not_make_a_keyspace_leaves_nothing_behind(tmp_path: Path) -> None:
    data, folder, program = tmp_path / "data", own_folder(tmp_path / "services"), tmp_path / "program"
    shutil.copytree(PROGRAM, program)
    settings = program / "servers/cassandra/cassandra.yaml"
    settings.write_text(settings.read_text().replace("AllowAllAuthorizer", "CassandraAuthorizer"))
    try:
        where = started("cassandra", folder, program)
        variables = {
            "DARKROOM_CASSANDRA": f"{where['host']}:{where['port']}",
            "DARKROOM_CASSANDRA_KEYSPACE": "prints",
            "DARKROOM_CASSANDRA_USER": "reader",
            "DARKROOM_CASSANDRA_PASSWORD": "sesame",
        }
        administrator = CassandraAddress(((where["host"], where["port"]),), "system", where["user"], where["password"])
        with closing(open_session(administrator, create=False, wait_s=60, tell=print)) as session:
            session.define("CREATE ROLE reader WITH PASSWORD = 'sesame' AND LOGIN = true")
            line = refused(*SERVE, data=data, settings=variables)
            assert "does not permit it: grant it, or name another user, cassandra_user" in line
            assert "User reader has no CREATE permission on <all keyspaces>" in line
            assert not data.exists()
    finally:
        control("stop", folder=folder, program=program)
