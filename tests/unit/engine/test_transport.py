from __future__ import annotations

import os
import socket
import threading

import pytest

from lilliput.engine.transport import connect, open_endpoint


@pytest.mark.skipif(os.name != "posix", reason="descriptors are inherited on POSIX systems only")
def test_the_inherited_socketpair_connects_both_ends() -> None:
    endpoint = open_endpoint(inherit=True)
    theirs = connect(f"fd:{os.dup(endpoint.inherited[0])}", b"")
    with endpoint.accept() as ours, theirs:
        ours.sendall(b"ping")
        assert theirs.recv(4) == b"ping"


def test_the_loopback_way_takes_only_who_knows_the_secret() -> None:
    endpoint = open_endpoint(inherit=False)
    assert endpoint.inherited == ()
    stranger = socket.create_connection(("127.0.0.1", int(endpoint.argument.partition(":")[2])))
    stranger.sendall(b"x" * 32)
    friends: list[socket.socket] = []
    thread = threading.Thread(target=lambda: friends.append(connect(endpoint.argument, endpoint.greeting)))
    thread.start()
    with endpoint.accept() as ours:
        thread.join()
        with friends[0] as friend, stranger:
            friend.sendall(b"pong")
            assert ours.recv(4) == b"pong"
            assert stranger.recv(1) == b""
