"""A worker of its own: collect the shards of one crawl, forwards or backwards.

`python -m tests.flows.crawl_worker FOLDER SOURCE forwards|backwards`; the store is in CRATEDIG_ variables.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows.crawl_shards import collect_shard, finish_crawl, plan_crawl
from flows.workspace import open_workspace


def main() -> None:
    """Do it, as the flow's tasks would one after the other."""
    folder, source, direction = sys.argv[1:]
    workspace = open_workspace(Path(folder))
    plan = plan_crawl(workspace, source, run_id="run", shards=3)
    shards = plan.shards if direction == "forwards" else plan.shards[::-1]
    finish_crawl(workspace, plan, [collect_shard(workspace, plan, shard) for shard in shards])


if __name__ == "__main__":
    main()
