"""Which host an address belongs to when it comes to sharing out work and being polite."""

from __future__ import annotations

import functools
import ipaddress
from urllib.parse import urlsplit

import tldextract

# The list that comes with the package: nothing is asked of the network, nothing is written. With
# its private part a.github.io and b.github.io are two hosts, as they are two sites to a browser.
_suffixes = tldextract.TLDExtract(
    suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True
)


@functools.lru_cache(maxsize=65_536)
def registrable_host(host: str) -> str:
    """Return the domain of `host` (a netloc or a name) that somebody has registered, lower case.

    That is the public suffix (publicsuffix.org) and one label: `cdn.shop.co.uk:8080` gives
    `shop.co.uk`. User names and ports are left out, so all ports of a machine are one host. An IP
    address stands for itself, and so does a name without a public suffix, such as `localhost` or a
    suffix alone. Names are given in their ASCII form (IDNA).
    """
    name = urlsplit(f"//{host}").hostname or ""
    name = name.rstrip(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        name = name.encode("idna").decode()
    except UnicodeError:
        return name  # no name that DNS knows; the guard refuses it
    return _suffixes(name).top_domain_under_public_suffix or name


def host_of(url: str) -> str:
    """Return the registrable host of an address; "" for one that names none, such as data:."""
    try:
        netloc = urlsplit(url).netloc
        return registrable_host(netloc) if netloc else ""
    except ValueError:
        return ""  # brackets that hold no IPv6 address: refused by the guard
