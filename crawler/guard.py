"""What may be connected to: web addresses on public hosts, unless the source allows private ones.

Two gates, because either alone has a hole. `check_url` reads the address as written and knows every
spelling of an IP literal; `GuardedResolver` sees what a name resolves to at the moment of connecting,
so a name that turns private between two look-ups (DNS rebinding) is refused as well. Redirects are
followed by hand, and each hop passes both.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import unquote, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
# Spellings that inet_aton() takes: parts in decimal, octal (0...) or hex (0x...), one to four of them.
_ATON_PART = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$")
# Names that mean this machine or its link without asking DNS: RFC 6761, RFC 6762.
_LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressForbidden(ValueError):
    """An address that must not be connected to; the message says which and why."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Raise `AddressForbidden` unless `url` is http(s), without user name, and not plainly private.

    IP literals are read as a socket would read them (decimal, octal, hex, short forms, IPv4 inside
    IPv6, full-width digits). With `allow_private`, loopback and private networks pass; link-local
    addresses never do, because cloud machines hand out their credentials there.
    """
    # A space in a path is common and is quoted on the way out; a line break would be a second header.
    if url != url.strip() or any(ord(each) < 0x20 or ord(each) == 0x7F for each in url):
        raise AddressForbidden(f"address holds a control character or outer space: {url!r}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # .port raises when it is no port number
    except ValueError as error:
        raise AddressForbidden(f"not a valid address: {url!r} ({error})") from None
    if parts.scheme not in {"http", "https"}:
        raise AddressForbidden(f"scheme {parts.scheme or '(none)'!r} is not http or https: {url}")
    if "@" in parts.netloc:
        raise AddressForbidden("an address with a user name or password in it is not fetched")
    # Browsers read a backslash as a slash, other parsers do not: they would see two different hosts.
    if not host or "\\" in parts.netloc:
        raise AddressForbidden(f"address has no plain host name: {url!r}")
    _check_host(host, url, allow_private=allow_private)


def is_public(address: str) -> bool:
    """Return whether an IP address, in its canonical spelling, is reachable by anyone on the internet.

    IPv4 addresses carried inside IPv6 (mapped, compatible, 6to4, Teredo, NAT64) are judged by the
    address inside. Text that is not an IP address is not public.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(_is_plain_public(each) for each in _with_embedded(parsed))


class GuardedResolver(AbstractResolver):
    """A resolver for aiohttp that raises `AddressForbidden` when a name's answer is not public.

    One forbidden answer among several refuses the name: nobody serves pictures from a mixture, and
    the connector would be free to pick the bad one.
    """

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, each of them checked; OSError when it does not resolve."""
        answers = await self._inner.resolve(host, port, family)
        for answer in answers:
            if not _may_connect(answer["host"], allow_private=self._allow_private):
                raise AddressForbidden(f"{host} resolves to {answer['host']}, which is not public")
        return answers

    async def close(self) -> None:
        """Release the resolver beneath."""
        await self._inner.close()


def _check_host(host: str, url: str, *, allow_private: bool) -> None:
    # What IDNA makes of a host name before it is looked up: full-width digits and dots become ASCII.
    name = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower().rstrip(".")
    if not name or re.search(r"[\s/\\@?#]", name):
        raise AddressForbidden(f"address has no plain host name: {url!r}")
    address = _read_literal(name)
    if address is not None:
        if not _may_connect(address, allow_private=allow_private):
            raise AddressForbidden(f"{host} is not a public address: {url}")
        return
    labels = f".{name}"
    if not allow_private and any(labels.endswith(f".{local}") for local in _LOCAL_NAMES):
        raise AddressForbidden(f"{host} names this machine or its own network: {url}")


def _read_literal(name: str) -> str | None:
    """Return the canonical address that a host name spells, None when it is a name for DNS."""
    if ":" in name:
        return name
    parts = name.split(".")
    if len(parts) <= 4 and all(_ATON_PART.match(part) for part in parts):
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            return name  # looks like a number and is none: not public, so refused
    return None


def _may_connect(address: str, *, allow_private: bool) -> bool:
    if is_public(address):
        return True
    if not allow_private:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(
        (each.is_private or each.is_loopback)
        and not (each.is_link_local or each.is_multicast or each.is_unspecified)
        for each in _with_embedded(parsed)
    )


def _with_embedded(address: _Address) -> list[_Address]:
    """Return the addresses to judge: the IPv4 ones inside an IPv6 address, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    embedded: list[_Address] = []
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        embedded.append(address.sixtofour)
    if address.teredo is not None:
        embedded.extend(address.teredo)
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return [low]
    if address in _IPV4_COMPATIBLE and int(address) > 1:  # :: and ::1 are themselves
        return [low]
    return [address, *embedded]


def _is_plain_public(address: _Address) -> bool:
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not site_local
    )
