"""Whether a Ray server answers at an address: Ray itself waits for minutes, and does not hear Ctrl-C meanwhile."""

from __future__ import annotations

import os
import socket
import threading
from importlib import import_module
from typing import BinaryIO

from numeric_formats.messages import one_line

ANSWER = 3.0
"""Seconds in which it has to."""
DATA, HEADERS, SETTINGS = 0, 1, 4
"""Kinds of frames of HTTP/2 (RFC 9113, section 6)."""
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
STATUS_200 = 0x88
"""The field that the headers of every answer of gRPC begin with (RFC 7541, appendix A)."""


def reached(address: str) -> str:
    """Where to connect to.

    Args:
        address: "auto" for the cluster that the environment or the last start on this machine names, "local", or
            host:port, of a client's server with ray:// before it.

    Returns:
        The address for `ray.init`.

    Raises:
        ConnectionError: no Ray server answers there.
        ValueError: it is no address.
    """
    if address == "local":  # Ray begins a cluster on this machine
        return address
    place = address
    if address == "auto":
        # As Ray goes about it; what the last cluster has left is there when it has ended, too.
        services = import_module("ray._private.services")
        place = os.environ.get("RAY_ADDRESS") or services.canonicalize_bootstrap_address("auto")
    host, _, port = place.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{place!r} is no address; auto or host:port is needed")
    answers: list[str] = []
    # In a thread: looking up a name has no limit of time.
    asking = threading.Thread(target=lambda: answers.append(_refusal(host.strip("[]"), int(port))), daemon=True)
    asking.start()
    asking.join(2 * ANSWER)
    why = answers[0] if answers else "timed out"
    if why:
        of_the_last = "" if place == address else ", where the last cluster was; ray start --head begins one"
        raise ConnectionError(f"nothing answers at {place} ({why}){of_the_last}")
    return place


def _refusal(host: str, port: int) -> str:
    """Why no Ray server answers; "" where one does."""
    try:
        with socket.create_connection((host, port), ANSWER) as link:
            if os.environ.get("RAY_USE_TLS", "0") != "0":  # it would have to be asked in secret
                return ""
            link.settimeout(ANSWER)
            link.sendall(_question(f"{host}:{port}"))
            with link.makefile("rb") as answer:
                return "" if _is_of_grpc(answer) else "what listens there is no Ray server"
    except (OSError, UnicodeError) as error:  # the latter of a name that is none
        return one_line(error)


def _question(authority: str) -> bytes:
    """A call that any server of gRPC answers, whether it knows it or not."""
    headers = b"".join(
        (
            *(b"\x83\x86", b"\x04", _text("/ray.rpc.NodeInfoGcsService/CheckAlive"), b"\x01", _text(authority)),
            *(b"\x0f\x10", _text("application/grpc"), b"\x00", _text("te"), _text("trailers")),
        )
    )
    return b"".join(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _frame(SETTINGS, 0, 0, b""),
            _frame(HEADERS, END_HEADERS, 1, headers),
            _frame(DATA, END_STREAM, 1, bytes(5)),  # an empty message
        )
    )


def _text(text: str) -> bytes:
    """A string of at most 126 bytes as headers hold it (RFC 7541, section 5.2)."""
    content = text.encode("idna" if not text.isascii() else "ascii")[:126]
    return bytes((len(content),)) + content


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def _is_of_grpc(answer: BinaryIO) -> bool:
    """Whether the headers of an answer come, and are those of gRPC."""
    for _ in range(100):
        head = answer.read(9)
        if len(head) < 9 or int.from_bytes(head[:3], "big") > 1 << 14:  # no frame that was allowed
            return False
        content = answer.read(int.from_bytes(head[:3], "big"))
        if head[3] == HEADERS:
            content = content[bool(head[4] & PADDED) + 5 * bool(head[4] & PRIORITY) :]
            while content and 0x20 <= content[0] < 0x40:  # the size of a table
                content = content[1:]
            return content[:1] == bytes((STATUS_200,))
    return False
