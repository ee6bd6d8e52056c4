"""A running form for readers, shared by the tests of this folder."""

from __future__ import annotations

import pytest
from desk_browser import Browser

from flows.serving.reads_server import reads_served
from flows.serving.servers import free_endpoint


@pytest.fixture
def open_desk(read_desk):
    return read_desk()


@pytest.fixture
def server(open_desk):
    with reads_served(open_desk, free_endpoint("127.0.0.1", 0, "here")) as server:
        yield server


@pytest.fixture
def browser(server) -> Browser:
    return Browser(server.server_address[1])
