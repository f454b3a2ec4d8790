"""The guard refuses every spelling of a private address, and names that resolve to one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.guard import AddressForbidden, GuardedResolver, check_url, is_public


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


@pytest.mark.parametrize(
    "url",
    [
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
    ],
)
def test_private_addresses_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(AddressForbidden):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
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
    ],
)
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
