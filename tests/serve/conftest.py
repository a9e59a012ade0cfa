"""One server for all tests of sockets: its rooms are apart."""

import pytest
from servers import running


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    overrides = (
        f"recording.folder={folder}/sessions",
        f"generate.folder={folder}/generated",
        "first_room.num_players=6",
        "lobby.max_rooms=4",
        "socket.stall_s=1.5",
        "room.connection.hello_ticks=12",
        "room.room.away_ticks=72",  # seats of those who were shut out are free again soon
        "room.room.ladder.worse_after=100000",  # a busy machine is no reason to refuse anybody here
    )
    with running(*overrides) as found:
        yield found
