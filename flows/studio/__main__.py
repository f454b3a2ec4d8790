"""Serve the studio: `python -m flows.studio --project ROOT --host 127.0.0.1 --port N`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn

from flows.errors import CratedigError
from flows.studio.access import access_for
from flows.studio.app import create_app


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; return 1, with one sentence on stderr, when it may not start."""
    parser = argparse.ArgumentParser(prog="python -m flows.studio", description="Serve the studio.")
    parser.add_argument("--project", type=Path, default=Path(), help="folder of project.toml")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on; 0: any")
    options = parser.parse_args(arguments)
    try:
        access = access_for(options.host)
    except CratedigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        create_app(options.project, access=access),
        host=options.host,
        port=options.port,
        ws="none",
        server_header=False,
        access_log=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
