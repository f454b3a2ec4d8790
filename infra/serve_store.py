"""Serve the object store for other machines: `python -m infra.serve_store --data DIR --host ADDRESS`.

For containers. Only the S3 interface, which asks for keys, listens on `--host`; SeaweedFS's own
servers stay on loopback. The keys are CRATEDIG_ACCESS_KEY and CRATEDIG_SECRET_KEY.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.processes import inherited_environment
from infra.store import FOREIGN_VARIABLES, server_command


def main() -> None:
    """Become the store, or end with one sentence on stderr where keys are missing."""
    parser = argparse.ArgumentParser(prog="python -m infra.serve_store", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the store's data")
    parser.add_argument("--host", default="127.0.0.1", help="the address S3 listens on")
    parser.add_argument("--port", type=int, default=8333, help="the port S3 listens on")
    options = parser.parse_args()
    names = ("CRATEDIG_ACCESS_KEY", "CRATEDIG_SECRET_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        sys.exit(f"error: set {' and '.join(missing)}")
    access_key, secret_key = (os.environ[name] for name in names)
    command = server_command(options.data, options.host, options.port, access_key, secret_key)
    environment = inherited_environment(without=FOREIGN_VARIABLES)
    # The store takes this process's place, so that it gets the signals that a container is sent.
    os.execve(command[0], command, environment)  # noqa: S606 - a fixed argument list


if __name__ == "__main__":
    main()
