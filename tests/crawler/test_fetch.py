"""The fetcher gives original bytes or a reason, asks for nothing forbidden, and bounds every cost."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gzip
import hashlib
import socket
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from crawler.consent import Consent, Signal
from crawler.fetch import FLEET_CAP, Fetched, Unchanged, Validators, fetch
from crawler.pages import ImageLink
from crawler.rejections import Reason, Rejected
from crawler.schedule import LOOK_AHEAD
from tests.crawler.picture_server import (
    FAST,
    JPEG,
    Answers,
    Handler,
    fetch_all,
    fetch_one,
    in_turn,
    raw,
    serving,
    status,
)


def send(body: bytes = JPEG, **headers: str) -> Handler:
    """Answer with `body`; header names are written with underscores."""
    return status(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def rejected(outcome: object) -> Rejected:
    assert isinstance(outcome, Rejected), outcome
    return outcome


def fetched(outcome: object) -> Fetched:
    assert isinstance(outcome, Fetched), outcome
    return outcome


def test_the_original_bytes_come_unchanged_with_their_hash() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}))
    got = fetched(outcome)
    assert got.data == JPEG
    assert got.sha256 == hashlib.sha256(JPEG).hexdigest()


def test_what_the_server_said_is_kept() -> None:
    answer = send(
        ETag='"v1"', Last_Modified="Mon, 02 Mar 2026 10:00:00 GMT", Content_Type="image/jpeg; q=1"
    )
    outcome, server = asyncio.run(fetch_one({"/a.jpg": answer}))
    got = fetched(outcome)
    assert (got.etag, got.last_modified) == ('"v1"', "Mon, 02 Mar 2026 10:00:00 GMT")
    assert (got.content_type, got.final_url) == ("image/jpeg", f"{server.base}/a.jpg")
    assert got.fetched_at.tzinfo is UTC


def test_the_user_agent_says_who_asks() -> None:
    _, server = asyncio.run(fetch_one({"/a.jpg": JPEG}))
    assert {headers["User-Agent"] for _, headers in server.requests} == {FAST.user_agent}


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/a.jpg?url=https%3A%2F%2Fx&sig=a+b%2f", "/a.jpg?url=https%3A%2F%2Fx&sig=a+b%2f"),
        ("/ä b.jpg?size=l", "/%C3%A4%20b.jpg?size=l"),
        ("/x/../a.jpg", "/a.jpg"),
        ("/x/%2E%2E/a.jpg#part", "/a.jpg"),
    ],
)
def test_an_address_is_asked_for_as_written_and_mended_only_where_it_must_be(
    written: str, asked: str
) -> None:
    """Signed addresses break when they are quoted anew."""

    async def scenario() -> str:
        async with serving({}) as server:
            await fetch_all([server.link(written)])
            return server.requests[-1][0]

    assert asyncio.run(scenario()) == asked


def test_every_link_has_one_outcome() -> None:
    async def scenario() -> list[str]:
        async with serving({f"/{at}.jpg": JPEG for at in range(0, 90, 2)}) as server:
            outcomes = await fetch_all(server.link(f"/{at}.jpg") for at in range(90))
            return sorted(type(each).__name__ for each in outcomes)

    assert asyncio.run(scenario()) == ["Fetched"] * 45 + ["Rejected"] * 45


def test_no_links_give_no_outcomes() -> None:
    assert asyncio.run(fetch_all([])) == []


# --- what the site forbids


def test_a_link_that_its_page_forbids_is_not_asked_for() -> None:
    said = Consent(
        allowed=False,
        signals=(Signal(kind="meta-robots", value="noimageai", where="http://x/"),),
    )

    async def scenario() -> tuple[list[object], int]:
        async with serving({"/a.jpg": JPEG}) as server:
            link = dataclasses.replace(server.link("/a.jpg"), consent=said)
            return list(await fetch_all([link])), len(server.requests)

    (outcome,), requests = asyncio.run(scenario())
    assert (rejected(outcome).reason, requests) == (Reason.META_ROBOTS, 0)
    assert "noimageai" in rejected(outcome).detail


def test_a_picture_that_robots_txt_forbids_is_not_asked_for() -> None:
    robots = send(b"User-agent: cratedig\nDisallow: /private/")
    answers: Answers = {"/robots.txt": robots, "/private/a.jpg": JPEG}
    outcome, server = asyncio.run(fetch_one(answers, "/private/a.jpg"))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert server.asked("/private/a.jpg") == 0


@pytest.mark.parametrize("path", ["/x/../private/a.jpg", "/x/%2e%2e/private/a.jpg"])
def test_robots_txt_judges_the_address_that_is_really_asked_for(path: str) -> None:
    answers: Answers = {
        "/robots.txt": send(b"User-agent: *\nDisallow: /private/"),
        "/private/a.jpg": JPEG,
    }
    outcome, server = asyncio.run(fetch_one(answers, path))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert len(server.requests) == 1


def test_robots_txt_is_asked_for_once_for_many_pictures() -> None:
    async def scenario() -> int:
        async with serving({"/robots.txt": send(b""), "/a.jpg": JPEG}) as server:
            await fetch_all(server.link(f"/a.jpg?{at}") for at in range(20))
            return server.asked("/robots.txt")

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("X-Robots-Tag", "noai", Reason.X_ROBOTS_TAG),
        ("X-Robots-Tag", "cratedig: noindex", Reason.X_ROBOTS_TAG),
        ("TDM-Reservation", "1", Reason.TDMREP),
    ],
)
def test_a_header_that_forbids_is_obeyed_before_the_body_is_read(
    header: str, value: str, reason: Reason
) -> None:
    """The body never comes: waiting for it would end in a timeout."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={header: value, "Content-Length": "1000"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    outcome, _ = asyncio.run(fetch_one({"/a.jpg": answer}))
    assert rejected(outcome).reason == reason
    assert not rejected(outcome).transient


def test_a_header_for_another_agent_does_not_forbid() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": send(X_Robots_Tag="googlebot: noindex")}))
    fetched(outcome)


def test_a_redirect_into_what_robots_txt_forbids_is_not_followed() -> None:
    answers: Answers = {
        "/robots.txt": send(b"User-agent: *\nDisallow: /private/"),
        "/a.jpg": status(302, {"Location": "/private/b.jpg"}),
        "/private/b.jpg": JPEG,
    }
    outcome, server = asyncio.run(fetch_one(answers))
    assert rejected(outcome).reason == Reason.ROBOTS_TXT
    assert server.asked("/private/b.jpg") == 0


# --- what the guard refuses


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1/a.jpg", "http://localhost/a.jpg", "ftp://x/a.jpg"]
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    link = ImageLink(url=address, page_url="", found_by="test")
    (outcome,) = asyncio.run(fetch_all([link], allow_private=False))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


def test_a_redirect_to_an_address_that_is_never_allowed_is_refused() -> None:
    answer = status(302, {"Location": "http://169.254.169.254/latest/meta-data/"})
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": answer}))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::1", "javascript:1"])
def test_a_redirect_to_no_web_address_is_refused(location: str) -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(302, {"Location": location})}))
    assert rejected(outcome).reason == Reason.ADDRESS_FORBIDDEN


# --- redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_the_last_address_kept(code: int) -> None:
    answers: Answers = {"/a.jpg": status(code, {"Location": "b.jpg"}), "/b.jpg": JPEG}
    outcome, server = asyncio.run(fetch_one(answers))
    assert fetched(outcome).final_url == f"{server.base}/b.jpg"


def test_an_endless_redirect_ends() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(302, {"Location": "/a.jpg"})}))
    assert rejected(outcome).reason == Reason.TOO_MANY_REDIRECTS


# --- failures, lasting and passing


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_a_client_error_is_final_and_not_tried_again(code: int) -> None:
    outcome, server = asyncio.run(fetch_one({"/a.jpg": status(code)}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.HTTP_ERROR, False)
    assert str(code) in rejected(outcome).detail
    assert server.asked("/a.jpg") == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_server_error_is_tried_again_and_then_transient(code: int) -> None:
    outcome, server = asyncio.run(fetch_one({"/a.jpg": status(code)}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.HTTP_ERROR, True)
    assert server.asked("/a.jpg") == 3


def test_a_server_error_that_passes_costs_nothing() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": in_turn(status(503), status(502), send())}))
    assert fetched(outcome).data == JPEG


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_long_retry_after_ends_the_attempts_and_leaves_the_host_alone(form: str) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    retry_after = {"seconds": "3600", "date": in_an_hour}[form]

    async def scenario() -> tuple[list[object], int]:
        busy = status(503, {"Retry-After": retry_after})
        async with serving({"/a.jpg": busy, "/b.jpg": JPEG}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=1)
            links = [server.link("/a.jpg"), server.link("/b.jpg")]
            return list(await fetch_all(links, policy)), len(server.requests)

    outcomes, requests = asyncio.run(scenario())
    assert [rejected(each).transient for each in outcomes] == [True, True]
    assert requests == 2 + 1  # robots.txt, tdmrep.json, and /a.jpg


def test_a_host_that_fails_again_and_again_is_left_alone() -> None:
    async def scenario() -> tuple[list[object], int]:
        async with serving({f"/{at}": status(500) for at in range(60)}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=1)
            outcomes = await fetch_all((server.link(f"/{at}") for at in range(60)), policy)
            return list(outcomes), len(server.requests)

    outcomes, requests = asyncio.run(scenario())
    assert len(outcomes) == 60
    assert all(rejected(each).transient for each in outcomes)
    assert requests == 2 + 8  # robots.txt, tdmrep.json, and as many as it may fail


def test_a_body_shorter_than_it_claims_is_truncated_and_transient() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", JPEG[:500])
    outcome, server = asyncio.run(fetch_one({"/a.jpg": cut}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TRUNCATED, True)
    assert server.asked("/a.jpg") == 3


def test_a_chunked_body_without_its_end_is_truncated() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": cut}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TRUNCATED, True)


def test_a_body_that_is_cut_once_is_fetched_whole_the_next_time() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", JPEG[:500])
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": in_turn(cut, send())}))
    assert fetched(outcome).data == JPEG


def test_a_server_that_hangs_up_is_a_transient_failure() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": raw()}))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (
        Reason.CONNECTION_FAILED,
        True,
    )


def test_what_is_not_http_is_an_http_error() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": raw(b"220 ftp ready\r\n")}))
    assert rejected(outcome).reason == Reason.HTTP_ERROR


def test_a_port_where_nobody_listens_is_a_transient_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        link = ImageLink(
            url=f"http://127.0.0.1:{unused.getsockname()[1]}/a.jpg", page_url="", found_by="test"
        )
        (outcome,) = asyncio.run(fetch_all([link]))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (
        Reason.CONNECTION_FAILED,
        True,
    )


def test_a_silent_server_is_given_up() -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    policy = dataclasses.replace(FAST, timeout_s=0.2)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": never}, policy=policy, attempts=1))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TIMEOUT, True)


def test_a_server_that_drips_is_given_up() -> None:
    """Every read gets a byte in time; the whole would take for ever."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.05)

    policy = dataclasses.replace(FAST, timeout_s=0.2)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": drip}, policy=policy, attempts=1))
    assert rejected(outcome).reason == Reason.TIMEOUT


# --- limits


def test_a_body_that_claims_to_be_too_large_is_not_read() -> None:
    policy = dataclasses.replace(FAST, max_bytes=len(JPEG) - 1)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}, policy=policy))
    assert (rejected(outcome).reason, rejected(outcome).transient) == (Reason.TOO_LARGE, False)


def test_a_body_as_large_as_allowed_passes() -> None:
    policy = dataclasses.replace(FAST, max_bytes=len(JPEG))
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": JPEG}, policy=policy))
    fetched(outcome)


def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    """It never ends, so only the limit can end it."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(10_000))

    policy = dataclasses.replace(FAST, max_bytes=100_000)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": endless}, policy=policy))
    assert rejected(outcome).reason == Reason.TOO_LARGE


def test_a_compressed_bomb_is_cut_off_at_the_limit() -> None:
    bomb = send(gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")
    policy = dataclasses.replace(FAST, max_bytes=100_000)
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": bomb}, policy=policy))
    assert rejected(outcome).reason == Reason.TOO_LARGE


def test_a_host_is_asked_no_more_at_once_than_the_policy_says() -> None:
    at_once, most = 0, 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.Response(body=JPEG)

    async def scenario() -> None:
        async with serving({"/a.jpg": slow}) as server:
            policy = dataclasses.replace(FAST, concurrency_per_host=3)
            await fetch_all((server.link(f"/a.jpg?{at}") for at in range(20)), policy)

    asyncio.run(scenario())
    assert most == 3


def test_links_are_taken_only_as_outcomes_are() -> None:
    """Endless links: a fetcher that read ahead without bound would never give the first outcome."""
    taken = 0

    async def scenario() -> None:
        async with serving({"/a.jpg": JPEG}) as server:

            def endless() -> Iterator[ImageLink]:
                nonlocal taken
                while True:
                    taken += 1
                    yield server.link(f"/a.jpg?{taken}")

            outcomes = fetch(endless(), policy=FAST, allow_private=True)
            async with aclosing(outcomes):
                for _ in range(5):
                    fetched(await anext(outcomes))

    asyncio.run(scenario())
    assert taken <= LOOK_AHEAD + FLEET_CAP + 5


def test_stopping_early_leaves_no_task_behind() -> None:
    async def scenario() -> set[str]:
        async with serving({"/a.jpg": JPEG}) as server:
            before = asyncio.all_tasks()
            outcomes = fetch(
                (server.link(f"/a.jpg?{at}") for at in range(100)), policy=FAST, allow_private=True
            )
            async with aclosing(outcomes):
                await anext(outcomes)
            ours = asyncio.all_tasks() - before
            return {str(task.get_coro()) for task in ours if "Downloader" in str(task.get_coro())}

    assert asyncio.run(scenario()) == set()


# --- asking again


def test_an_unchanged_body_is_not_sent_again() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == '"v1"':
            raise web.HTTPNotModified
        return web.Response(body=JPEG)

    async def scenario() -> list[object]:
        async with serving({"/a.jpg": answer}) as server:
            link = server.link("/a.jpg")
            return list(await fetch_all([link], known={link.url: Validators(etag='"v1"')}))

    (outcome,) = asyncio.run(scenario())
    assert isinstance(outcome, Unchanged)


def test_an_unchanged_site_costs_next_to_no_bodies() -> None:
    """200 pictures crawled twice, one of them changed in between, by ETag or by date."""
    bodies_sent = 0
    versions = {f"/{at}.jpg": 1 for at in range(200)}

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal bodies_sent
        version = versions[request.path]
        even = int(request.path[1:].split(".")[0]) % 2 == 0
        mark = f'"v{version}"' if even else f"Mon, 02 Mar 2026 10:00:0{version} GMT"
        asked = request.headers.get("If-None-Match" if even else "If-Modified-Since")
        if asked == mark:
            raise web.HTTPNotModified
        bodies_sent += 1
        return web.Response(body=JPEG, headers={"ETag" if even else "Last-Modified": mark})

    async def scenario() -> list[object]:
        async with serving(dict.fromkeys(versions, answer)) as server:
            links = [server.link(path) for path in versions]
            known = {
                each.link.url: Validators(etag=each.etag, last_modified=each.last_modified)
                for each in map(fetched, await fetch_all(links))
            }
            versions["/7.jpg"] += 1
            return list(await fetch_all(links, known=known))

    outcomes = asyncio.run(scenario())
    assert bodies_sent == 200 + 1
    assert sum(isinstance(each, Unchanged) for each in outcomes) == 199


def test_a_picture_that_became_forbidden_is_rejected_even_when_unchanged() -> None:
    async def scenario() -> list[object]:
        answer = status(304, {"X-Robots-Tag": "noai"})
        async with serving({"/a.jpg": answer}) as server:
            link = server.link("/a.jpg")
            return list(await fetch_all([link], known={link.url: Validators(etag='"v1"')}))

    (outcome,) = asyncio.run(scenario())
    assert rejected(outcome).reason == Reason.X_ROBOTS_TAG


def test_an_answer_of_unchanged_that_nobody_asked_for_is_an_error() -> None:
    outcome, _ = asyncio.run(fetch_one({"/a.jpg": status(304)}))
    assert rejected(outcome).reason == Reason.HTTP_ERROR


# --- pictures inside the page


@pytest.mark.parametrize(
    "url",
    [
        "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        "DATA:image/jpeg;charset=x;base64," + base64.b64encode(JPEG).decode().rstrip("="),
        "data:image/jpeg," + "".join(f"%{byte:02x}" for byte in JPEG),
    ],
)
def test_a_data_address_gives_its_bytes(url: str) -> None:
    (outcome,) = asyncio.run(fetch_all([ImageLink(url=url, page_url="", found_by="test")]))
    assert (fetched(outcome).data, fetched(outcome).content_type) == (JPEG, "image/jpeg")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", Reason.NOT_AN_IMAGE),
        ("data:image/png;base64,a", Reason.CORRUPT),
        ("data:image/png;base64," + "AAAA" * 400, Reason.TOO_LARGE),
    ],
)
def test_a_data_address_that_is_no_use_is_rejected(url: str, reason: Reason) -> None:
    policy = dataclasses.replace(FAST, max_bytes=1000)
    link = ImageLink(url=url, page_url="", found_by="test")
    (outcome,) = asyncio.run(fetch_all([link], policy))
    assert rejected(outcome).reason == reason


def test_a_reservation_for_the_whole_site_is_heeded_and_asked_for_once() -> None:
    """tdmrep.json forbids one folder; the evidence says where that stood."""
    terms = b'[{"location": "/mine/*", "tdm-reservation": 1}]'

    async def scenario() -> tuple[dict[str, object], int]:
        pages = {"/.well-known/tdmrep.json": terms, "/mine/a.jpg": JPEG, "/b.jpg": JPEG}
        async with serving(pages) as server:
            links = [server.link("/mine/a.jpg"), server.link("/b.jpg")]
            outcomes = await fetch_all(links, FAST)
            asked = server.asked("/.well-known/tdmrep.json")
        return {type(each).__name__: each for each in outcomes}, asked

    outcomes, asked = asyncio.run(scenario())
    assert isinstance(outcomes["Fetched"], Fetched)
    assert outcomes["Fetched"].link.url.endswith("/b.jpg")
    assert rejected(outcomes["Rejected"]).reason is Reason.TDMREP
    assert rejected(outcomes["Rejected"]).detail.count("/.well-known/tdmrep.json")
    assert asked == 1
