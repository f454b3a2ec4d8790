"""Choose loopback ports, and ask whether something answers on one."""

from __future__ import annotations

import http.client
import random
import socket

_CHOICE = range(20_000, 32_768)
"""Below the ports that Linux lends to outgoing connections (32768 and up), so that a port which is
kept for the next start is not taken meanwhile by any program that happens to open a connection."""


def is_free(port: int) -> bool:
    """Say whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still being closed down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return `count` distinct loopback ports that were free a moment ago.

    They are drawn at random, so that several processes that choose at once rarely collide.
    """
    found: list[int] = []
    for port in random.sample(_CHOICE, len(_CHOICE)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"found {len(found)} free ports from 20000 to 32767, and {count} are needed")
    return found


def http_status(port: int, path: str, *, timeout_s: float = 2.0) -> int | None:
    """Return the HTTP status of GET `path` on 127.0.0.1:`port`; None if no answer came in time.

    The connection is direct: proxies that the environment names are for other addresses.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
