"""Leases in a real store: no two workers hold a host at a time, and none is lost for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.leases import BucketLeases, drop_leases, lease_key
from flows.objects import ObjectStore
from flows.settings import Settings
from tests.waiting import until

TTL_S = 5.0
HOST = "shop.example.org"


def test_of_many_workers_that_ask_at_once_one_gets_the_host(bucket: Settings) -> None:
    """At first with a put if there is none, in later rounds by replacing what was given back."""
    workers, rounds = 6, 4
    together = threading.Barrier(workers, timeout=60)
    stores = [ObjectStore(bucket) for _ in range(workers)]

    def work(number: int) -> list[bool]:
        won = []
        for _ in range(rounds):
            with BucketLeases(stores[number], f"worker {number}") as leases:
                together.wait()
                won.append(leases.take(HOST))
                together.wait()
                assert leases.take(HOST) == won[-1]
                together.wait()
            together.wait()
        return won

    with ThreadPoolExecutor(workers) as pool:
        by_worker = list(pool.map(work, range(workers)))
    assert [sum(won) for won in zip(*by_worker, strict=True)] == [1] * rounds


def test_all_names_below_a_registered_domain_are_one_host(object_store: ObjectStore) -> None:
    with BucketLeases(object_store, "one") as one, BucketLeases(object_store, "two") as two:
        assert one.take("img.example.org:8080")
        assert not two.take("www.example.org")


def test_a_closed_worker_gives_back_at_once_on_the_way_of_an_error_too(
    object_store: ObjectStore,
) -> None:
    one = BucketLeases(object_store, "one")

    def work() -> None:
        with one:
            assert one.take(HOST)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        work()
    assert not one.take(HOST)
    with BucketLeases(object_store, "two") as two:
        assert two.take(HOST)


def test_a_lease_is_renewed_for_as_long_as_it_is_held(object_store: ObjectStore) -> None:
    """After its first end has passed, by the store's clock, nobody else gets it."""
    with (
        BucketLeases(object_store, "one", ttl_s=TTL_S) as one,
        BucketLeases(object_store, "two", ttl_s=TTL_S) as two,
    ):
        assert one.take(HOST)
        first_end = object_store.clock().timestamp() + TTL_S + 1
        until(lambda: object_store.clock().timestamp() > first_end)
        assert not two.take(HOST)
        assert one.take(HOST)


def test_a_host_that_nothing_is_asked_of_any_more_is_given_back(object_store: ObjectStore) -> None:
    """To whoever wants it; hosts that are visited, or were taken to the end, are not."""
    with (
        BucketLeases(object_store, "one", ttl_s=TTL_S) as one,
        BucketLeases(object_store, "two", ttl_s=TTL_S) as two,
    ):
        for host in ("done.org", "slow.org", "asked.org"):
            assert asyncio.run(one.hold(host))
        assert one.take("kept.org")
        with one.visit("slow.org"):

            def given_back() -> bool:
                assert asyncio.run(one.hold("asked.org"))
                return two.take("done.org")

            until(given_back)
            assert not any(two.take(host) for host in ("slow.org", "asked.org", "kept.org"))
        until(lambda: two.take("slow.org"))
        assert not asyncio.run(one.hold("done.org"))
        assert not two.take("kept.org")


def test_a_host_that_was_given_back_is_still_left_alone_for_as_long_as_it_asked(
    object_store: ObjectStore,
) -> None:
    with BucketLeases(object_store, "one", ttl_s=TTL_S) as one:
        assert asyncio.run(one.hold(HOST))
        rests_until = object_store.clock().timestamp() + 3 * TTL_S
        one.rest(HOST, 3 * TTL_S)
        with BucketLeases(object_store, "two", ttl_s=TTL_S) as two:
            until(lambda: two.take(HOST))
            assert object_store.clock().timestamp() >= rests_until - 1


def test_the_lease_of_a_killed_worker_runs_out(bucket: Settings, object_store: ObjectStore) -> None:
    program = (
        "import sys, time\n"
        "from flows.leases import BucketLeases\n"
        "from flows.objects import ObjectStore\n"
        "from flows.settings import Settings\n"
        "store = ObjectStore(Settings())\n"
        f"leases = BucketLeases(store, 'killed', ttl_s={TTL_S})\n"
        f"print(leases.take({HOST!r}), flush=True)\n"
        "time.sleep(600)\n"
    )
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
    with BucketLeases(object_store, "heir", ttl_s=TTL_S) as heir:
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "True\n"
                assert not heir.take(HOST)
            finally:
                process.kill()
        assert not heir.take(HOST)
        until(lambda: heir.take(HOST))


def test_a_lease_that_another_has_taken_is_noticed(object_store: ObjectStore) -> None:
    """As after a pause of the whole machine: the next renewal meets somebody else's lease."""
    with BucketLeases(object_store, "one", ttl_s=TTL_S) as one:
        assert one.take(HOST)
        theirs = {"owner": "other", "expires": object_store.clock().timestamp() + 600}
        object_store.put(lease_key("example.org"), str(theirs).replace("'", '"').encode())
        until(lambda: not one.take(HOST))


def test_who_comes_next_waits_for_the_pause_that_the_host_asked_for(
    object_store: ObjectStore,
) -> None:
    with BucketLeases(object_store, "one") as one:
        assert one.take(HOST)
        one.rest(HOST, 2.0)
    with BucketLeases(object_store, "two") as two:
        assert not two.take(HOST)
        until(lambda: two.take(HOST))


def test_leases_that_ran_out_long_ago_are_dropped_and_those_held_are_not(
    object_store: ObjectStore,
) -> None:
    with BucketLeases(object_store, "one") as one:
        assert one.take("held.org")
        with BucketLeases(object_store, "two") as two:
            assert two.take("old.org")
            assert two.take("gone.org")
        assert drop_leases(object_store, idle_s=3600) == 0
        assert drop_leases(object_store, idle_s=3600, also="gone.org".__eq__) == 1
        assert drop_leases(object_store, idle_s=0) == 1
        assert [info.key for info in object_store.list("leases/")] == [lease_key("held.org")]
        with BucketLeases(object_store, "two") as two:
            assert two.take("old.org")
