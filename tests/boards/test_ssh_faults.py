# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong before there is an SSH session; needs no board."""

import socket
import threading
from dataclasses import replace

import pytest

from edgeopt.boards import ssh
from edgeopt.boards.address import Address
from edgeopt.errors import BoardError


def address(port: int, host: str = "127.0.0.1") -> Address:
    return Address(user="pi", host=host, port=port)


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        port = taken.getsockname()[1]
        expected = rf"kitchen: \[127\.0\.0\.1\]:{port} refuses the connection: no sshd listens"
        with pytest.raises(BoardError, match=expected):
            ssh.fetch_host_key("kitchen", address(port))


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(BoardError, match=r"kitchen: no host is called no\.such\.board\.invalid"):
        ssh.fetch_host_key("kitchen", address(22, "no.such.board.invalid"))


def test_a_server_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            near, _ = server.accept()
            with near:
                near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BoardError, match=r"kitchen: .* does not speak SSH as expected"):
            ssh.fetch_host_key("kitchen", address(server.getsockname()[1]))
        thread.join()


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = replace(address(server.getsockname()[1]), timeout_s=0.5)
        with pytest.raises(BoardError, match="kitchen: "):
            ssh.fetch_host_key("kitchen", silent)
