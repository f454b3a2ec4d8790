"""The guard refuses every spelling of a private address, and names that resolve to one."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import sys

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.guard import (
    AddressForbidden,
    GuardedResolver,
    check_url,
    guarded_socket,
    is_public,
)
from crawler.pages import ImageLink
from crawler.rejections import Reason, Rejected
from tests.crawler.picture_server import fetch_all


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.jpg",
        "https://example.org:8443/a.jpg?x=1#y",
        "http://93.184.215.14/",
        "http://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
        "http://bücher.example/ä.jpg",
        "http://localhost.example.org/",
        "http://cafe.de/",
        "http://example.org./",
        "http://example.org/my photo.jpg",
    ],
)
def test_public_addresses_pass(url: str) -> None:
    check_url(url, allow_private=False)


_PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://%31%32%37.0.0.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://[fec0::1]/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://256.256.256.256/",
    "http://99999999999/",
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://printer.local/",
    "http://metadata.google.internal/",
    "http://127.0.0.1:8080/",
    "https://127.255.255.254/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0X7F000001/",
    "http://127.0x0.01/",
    "http://00000177.0.0.01/",
    "http://10.1/",
    "http://0xa9fea9fe/",
    "http://2852039166/latest/meta-data/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2002:c0a8:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000::0001]:443/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://198.18.0.1/",
    "http://203.0.113.7/",
    "http://100.127.255.255/",
    "http://172.31.255.255/",
    "http://240.0.0.1/",
    "http://239.255.255.250:1900/",
    "http://127。1/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://127.0.0.1。/",
    "http://localhost./",
    "http://x.localhost/",
    "http://nas.home.arpa/",
    "http://LOCALHOST。/",
]
_ODD = [
    "ftp://example.org/a.jpg",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//example.org/a.jpg",
    "a.jpg",
    "",
    "http://",
    "http:///a.jpg",
    "http://user@example.org/",
    "http://user:secret@example.org/",
    "http://@example.org/",
    "http://example.org\\@127.0.0.1/",
    "http://example.org\\.evil.example/",
    "http://exam ple.org/",
    " http://example.org/",
    "http://example.org/\r\nHost: evil",
    "http://example.org:99999/",
    "http://example.org:http/",
    "http://[::1/",
    "http://example.org%2f@evil.example/",
    "http://127.0.0.1:80@example.org/",
    "http://example.org:22/",
    "http://example.org:25/",
    "http://example.org:0/",
    "https://example.org:6667/",
    "gopher://example.org/",
    "ws://example.org/",
    "blob:http://example.org/1",
    "http:\\\\example.org/",
]


@pytest.mark.parametrize("url", _PRIVATE)
def test_private_addresses_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(AddressForbidden):
        check_url(url, allow_private=False)


@pytest.mark.parametrize("url", _ODD)
@pytest.mark.parametrize("allow_private", [False, True])
def test_odd_addresses_are_refused_even_when_private_ones_are_allowed(
    url: str, allow_private: bool
) -> None:
    with pytest.raises(AddressForbidden):
        check_url(url, allow_private=allow_private)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/", "http://localhost/", "http://10.0.0.1/", "http://[::1]/"]
)
def test_a_source_may_allow_private_addresses(url: str) -> None:
    check_url(url, allow_private=True)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://[fe80::1]/", "http://0.0.0.0/", "http://224.0.0.1/"]
)
def test_link_local_addresses_are_never_allowed(url: str) -> None:
    """Cloud machines hand out credentials there, and no picture lies there."""
    with pytest.raises(AddressForbidden):
        check_url(url, allow_private=True)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_ipv4_inside_ipv6_is_judged_as_the_ipv4_address(address: ipaddress.IPv4Address) -> None:
    mapped = f"::ffff:{address}"
    nat64 = f"64:ff9b::{address}"
    assert is_public(mapped) == is_public(nat64) == is_public(str(address))


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_number_spellings_are_judged_as_the_dotted_address(address: ipaddress.IPv4Address) -> None:
    def passes(url: str) -> bool:
        try:
            check_url(url, allow_private=False)
        except AddressForbidden:
            return False
        return True

    dotted = passes(f"http://{address}/")
    assert passes(f"http://{int(address)}/") == dotted
    assert passes(f"http://0x{int(address):x}/") == dotted
    assert passes(f"http://0{int(address):o}/") == dotted


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_either_passes_or_is_forbidden(text: str) -> None:
    """No other exception comes out, whatever a page holds."""
    for url in (text, f"http://{text}/"):
        try:
            check_url(url, allow_private=False)
        except AddressForbidden:
            continue


def test_text_that_is_no_address_is_not_public() -> None:
    assert not is_public("example.org")


def test_a_name_that_resolves_to_loopback_is_refused() -> None:
    async def resolve() -> None:
        resolver = GuardedResolver()
        try:
            await resolver.resolve("localhost", 80, socket.AF_UNSPEC)
        finally:
            await resolver.close()

    with pytest.raises(AddressForbidden, match="localhost resolves to"):
        asyncio.run(resolve())


def test_a_name_that_resolves_to_loopback_passes_when_private_is_allowed() -> None:
    async def resolve() -> list[str]:
        resolver = GuardedResolver(allow_private=True)
        try:
            return [answer["host"] for answer in await resolver.resolve("localhost", 80)]
        finally:
            await resolver.close()

    assert "127.0.0.1" in asyncio.run(resolve())


_connects: list[object] = []
"""What any socket of this process was told to connect to, once `_watched` has been called."""


@functools.cache
def _watch_connects() -> None:
    """Note every connect from now on; an audit hook cannot be taken off again."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.connect":
            _connects.append(arguments[1])

    sys.addaudithook(note)


def test_no_socket_is_connected_for_any_forbidden_address() -> None:
    """The proof that the table above is not only about words."""
    _watch_connects()
    links = [ImageLink(url=url, page_url="", found_by="test") for url in (*_PRIVATE, *_ODD)]
    _connects.clear()
    outcomes = asyncio.run(fetch_all(links, allow_private=False))
    assert _connects == []
    assert len(links) >= 60
    assert [type(each) for each in outcomes] == [Rejected] * len(links)
    assert {each.reason for each in outcomes if isinstance(each, Rejected)} == {
        Reason.ADDRESS_FORBIDDEN
    }


def test_the_watch_sees_a_connect_that_is_made() -> None:
    """Or else the proof above would hold whatever is done."""
    _watch_connects()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        assert server.getsockname() in _connects


class _Rebinding(AbstractResolver):
    """DNS as an attacker runs it: a public address for the first question, then a private one."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%eth0"],
)
def test_a_name_is_judged_by_each_answer_anew(answer: str) -> None:
    async def resolve_twice() -> None:
        resolver = GuardedResolver(inner=_Rebinding("93.184.215.14", answer))
        assert [each["host"] for each in await resolver.resolve("x.example")] == ["93.184.215.14"]
        await resolver.resolve("x.example")

    with pytest.raises(AddressForbidden, match=r"x\.example resolves to"):
        asyncio.run(resolve_twice())


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_no_socket_is_made_for_a_forbidden_address_whatever_led_there(address: str) -> None:
    """The last gate: with a resolver that is not guarded, nothing is connected to either."""
    _watch_connects()

    async def ask() -> None:
        connector = aiohttp.TCPConnector(
            resolver=_Rebinding(address), socket_factory=guarded_socket(allow_private=False)
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.get("http://x.example/")

    _connects.clear()
    with pytest.raises(AddressForbidden):
        asyncio.run(ask())
    assert _connects == []
