"""Ask a server of this machine whether it is well: `python -m infra.answers ADDRESS`; exit status 0 or 1.

For health checks of containers, which have no curl.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from infra.ports import http_status


def main(arguments: list[str]) -> int:
    """Return 0 when the address answers with a status below 400."""
    address = urlsplit(arguments[0])
    status = http_status(address.port or 80, address.path or "/", timeout_s=4.0)
    print(f"{arguments[0]}: {status or 'no answer'}")
    return 0 if status is not None and status < 400 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
