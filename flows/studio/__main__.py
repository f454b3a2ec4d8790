"""Serve the studio: `python -m flows.studio --project ROOT --host 127.0.0.1 --port N`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from flows import logs, observe
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
        observe.begin(options.project.resolve())
        access = access_for(options.host)
    except CratedigError as error:
        logs.tell_failed(f"error: {error}", error)
        return 1
    app = create_app(options.project, access=access)
    app.state.reader.warm()
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        ws="none",
        server_header=False,
        access_log=False,
        # Its own lines are for people.
        log_config=None if logs.is_json() else LOGGING_CONFIG,
        log_level="info",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
