"""A crawl in shards: the same as by one process, and polite across processes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from crawler.pages import About, ImageLink
from flows.catalog import Catalog
from flows.collect import collect
from flows.crawl_shards import (
    collect_shard,
    finish_crawl,
    plan_crawl,
    read_links,
    shard_of,
    write_links,
)
from flows.objects import ObjectStore
from flows.project import Project
from flows.rows import LinkRow
from flows.settings import Settings
from flows.workspace import Workspace
from tests.crawler.pictures import encoded, picture
from tests.flows.host_servers import Asked, Host, serving_hosts

CRAWL_DELAY_S = 1.0
JITTER_S = 0.3
"""By how much a request may be late at the server on a machine that has other things to do."""

PROJECT = """
name = "fleet"
contact = "{contact}"

[encoder]
model = "ViT-B-32"
pretrained = "none"

[[labels]]
name = "blot"

[[sources]]
name = "one"
kind = "urls"
start = [{one}]
allow_private = true

[[sources]]
name = "two"
kind = "urls"
start = [{two}]
allow_private = true

[limits]
delay_s = 0.0
min_side = 16
"""

ROBOTS = b"User-agent: *\nDisallow: /private\n"
PATHS = {"one": ("/a.jpg", "/b.jpg", "/private/a.jpg"), "two": ("/c.jpg", "/missing.jpg", "/a.jpg")}


def some_hosts(count: int, *, slow: bool) -> list[Host]:
    """Hosts with three pictures each; if `slow`, some ask for a delay or, once, for a pause."""
    hosts = []
    for number in range(count):
        files = {
            f"/{name}.jpg": encoded(picture(10 * number + at, (48, 36)), "JPEG")
            for at, name in enumerate("abc")
        }
        host = Host(name=f"127.0.0.{2 + number}", files=files)
        delayed = slow and number % 2 == 0
        delay = f"Crawl-delay: {CRAWL_DELAY_S:.0f}\n".encode() if delayed else b""
        host.files = {**files, "/robots.txt": ROBOTS + delay, "/private/a.jpg": files["/a.jpg"]}
        if slow and number % 5 == 0:
            host.retry_after["/b.jpg"] = 2
        hosts.append(host)
    return hosts


def write_project(folder: Path, hosts: list[Host], contact: str) -> None:
    folder.mkdir(exist_ok=True)
    listed = {
        source: ", ".join(json.dumps(host.url(path)) for host in hosts for path in paths)
        for source, paths in PATHS.items()
    }
    (folder / "project.toml").write_text(PROJECT.format(contact=contact, **listed))


def outcomes(rows: list[LinkRow]) -> set[tuple[str, str, str, str | None]]:
    return {(row.url, row.outcome, row.reason, row.sha256) for row in rows}


def test_in_shards_a_crawl_comes_to_what_one_process_comes_to(
    tmp_path: Path, bucket: Settings
) -> None:
    with serving_hosts(some_hosts(6, slow=False)) as hosts:
        write_project(tmp_path, hosts, "fleet@example.org")
        workspaces = []
        for _ in range(2):
            settings = bucket.model_copy(update={"prefix": f"test-{uuid.uuid4().hex}"})
            store = ObjectStore(settings)
            workspaces.append(
                Workspace(
                    root=tmp_path,
                    settings=settings,
                    project=Project.load(tmp_path),
                    store=store,
                    catalog=Catalog(store),
                )
            )
        alone, shared = workspaces
        expected, _ = collect(alone, "one", run_id="run")

        plan = plan_crawl(shared, "one", run_id="run", shards=2)
        results = [collect_shard(shared, plan, shard) for shard in plan.shards]
        result = finish_crawl(shared, plan, results)
        asked = sum(len(host.asked) for host in hosts)
        again = [collect_shard(shared, plan, shard) for shard in plan.shards]

        assert outcomes(list(shared.catalog.links())) == outcomes(list(alone.catalog.links()))
        assert set(shared.catalog.sha256s()) == set(alone.catalog.sha256s())
        counted = (result.links, result.fetched, result.kept, result.duplicates, result.rejected)
        assert counted == (
            expected.links,
            expected.fetched,
            expected.kept,
            expected.duplicates,
            expected.rejected,
        )
        assert again == results
        assert sum(len(host.asked) for host in hosts) == asked
        assert collect(shared, "one", run_id="run") == (result, True)


@pytest.mark.slow
def test_two_workers_on_the_same_twenty_hosts_obey_every_one_of_them(
    tmp_path: Path, bucket: Settings
) -> None:
    """By the servers' own log: robots.txt, Crawl-delay, Retry-After, and one visitor at a time."""
    assert bucket.access_key is not None
    assert bucket.secret_key is not None
    environment = {
        "CRATEDIG_ENDPOINT": str(bucket.endpoint),
        "CRATEDIG_BUCKET": bucket.bucket,
        "CRATEDIG_PREFIX": bucket.prefix,
        "CRATEDIG_ACCESS_KEY": bucket.access_key.get_secret_value(),
        "CRATEDIG_SECRET_KEY": bucket.secret_key.get_secret_value(),
        "PYTHONPATH": ":".join(sys.path),
    }
    with serving_hosts(some_hosts(20, slow=True)) as hosts, ExitStack() as stack:
        workers = []
        for source, direction in (("one", "forwards"), ("two", "backwards")):
            folder = tmp_path / source
            write_project(folder, hosts, f"{source}@example.org")
            command = [sys.executable, "-m", "tests.flows.crawl_worker", str(folder), source]
            process = stack.enter_context(subprocess.Popen([*command, direction], env=environment))
            stack.callback(process.kill)
            workers.append(process)
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    store = ObjectStore(bucket)
    rows = list(Catalog(store).links())
    assert len(rows) == 20 * 6
    assert not [row for row in rows if row.transient]
    for host in hosts:
        asked = sorted(host.asked, key=lambda each: each.start)
        assert not [each for each in asked if each.path.startswith("/private")]
        visits = [who for who, _ in itertools.groupby(asked, key=lambda each: each.who)]
        assert len(visits) == len(set(visits)) == 2, "each came once, the one after the other"
        asks_for_delay = b"Crawl-delay" in host.files["/robots.txt"]
        for before, after in itertools.pairwise(asked):
            if asks_for_delay:
                assert after.start - before.start > CRAWL_DELAY_S - JITTER_S
            if before.who != after.who:
                assert before.end <= after.start
        _assert_pauses_are_kept(asked)


def _assert_pauses_are_kept(asked: list[Asked]) -> None:
    for paused in (each for each in asked if each.status == 503):
        for each in asked:
            if each.start > paused.end:
                assert each.start - paused.end > 2.0 - JITTER_S


def test_links_come_back_as_they_were_and_those_of_a_host_stay_together(
    object_store: ObjectStore,
) -> None:
    links = [
        ImageLink(
            url=f"https://img{number % 7}.host{number % 5}.org/{number}.jpg",
            page_url="https://a.org/",
            found_by="img[src]",
            alt="Straße",
            about=About(caption="a caption", columns={"price": "3"}),
        )
        for number in range(2500)
    ]
    keys = write_links(object_store, "runs/run/links-shop", links, shards=3)
    parts = [list(read_links(object_store, key)) for key in keys]
    place = {link.url: number for number, link in enumerate(links)}
    assert sorted(itertools.chain(*parts), key=lambda link: place[link.url]) == links
    for part in parts:
        numbers = [place[link.url] for link in part]
        assert numbers == sorted(numbers)
    hosts = [{link.url.split("/")[2].split(".", 1)[1] for link in part} for part in parts]
    assert not any(one & other for one, other in itertools.combinations(hosts, 2))


def test_the_shard_of_a_host_is_the_same_in_every_release() -> None:
    assert [shard_of(host) for host in ("example.org", "127.0.0.1", "")] == [6, 20, 20]
