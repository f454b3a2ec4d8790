"""What may be connected to: web addresses on public hosts, unless the source allows private ones.

Three gates, because each alone has a hole. `check_url` reads the address as written and knows every
spelling of an IP literal; `GuardedResolver` sees what a name resolves to at the moment of connecting,
so a name that turns private between two look-ups (DNS rebinding) is refused as well; and
`guarded_socket` makes no socket for an address that is not allowed, whatever led there. Redirects
are followed by hand, and each hop passes all three.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")  # RFC 9637, which Python 3.11 does not know yet
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Spellings that inet_aton() takes: parts in decimal, octal (0...) or hex (0x...), one to four of them.
_ATON_PART = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$")
# Names that mean this machine or its link without asking DNS: RFC 6761, RFC 6762.
_LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa")

# Where other protocols listen, whose servers an HTTP request could be made to talk to: the "bad
# ports" of fetch.spec.whatwg.org, which no browser asks for a picture either.
_BAD_PORTS = frozenset(
    {
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179),
        *(389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601),
        *(636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000),
        *(6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    }
)

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
    if url != url.strip() or _CONTROL.search(url):
        raise AddressForbidden(f"address holds a control character or outer space: {url!r}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port  # .port raises when it is no port number
    except ValueError as error:
        raise AddressForbidden(f"not a valid address: {url!r} ({error})") from None
    if parts.scheme not in {"http", "https"}:
        raise AddressForbidden(f"scheme {parts.scheme or '(none)'!r} is not http or https: {url}")
    if port in _BAD_PORTS:
        raise AddressForbidden(f"port {port} is no web server's: {url}")
    if "@" in parts.netloc:
        raise AddressForbidden("an address with a user name or password in it is not fetched")
    # Browsers read a backslash as a slash, other parsers do not: they would see two different hosts.
    if not host or "\\" in parts.netloc:
        raise AddressForbidden(f"address has no plain host name: {url!r}")
    if objection := _objection(host, allow_private):
        raise AddressForbidden(f"{objection}: {url!r}")


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

    def __init__(
        self, *, allow_private: bool = False, inner: AbstractResolver | None = None
    ) -> None:
        self._allow_private = allow_private
        self._inner = inner or ThreadedResolver()

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


def guarded_socket(*, allow_private: bool) -> Callable[[AddrInfoType], socket.socket]:
    """Return a maker of sockets, for aiohttp, that raises `AddressForbidden` instead of making one."""

    def make(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not _may_connect(str(host), allow_private=allow_private):
            raise AddressForbidden(f"{host} is not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


@functools.lru_cache(maxsize=4096)
def _objection(host: str, allow_private: bool) -> str:
    """Return why `host`, as written, must not be asked; "" when it may be."""
    # What IDNA makes of a host name before it is looked up: full-width digits and dots become ASCII.
    name = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower().rstrip(".")
    if not name or re.search(r"[\s/\\@?#]", name):
        return "address has no plain host name"
    address = _read_literal(name)
    if address is not None:
        if not _may_connect(address, allow_private=allow_private):
            return f"{host} is not a public address"
        return ""
    labels = f".{name}"
    if not allow_private and any(labels.endswith(f".{local}") for local in _LOCAL_NAMES):
        return f"{host} names this machine or its own network"
    return ""


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
        and address not in _DOCUMENTATION
    )
