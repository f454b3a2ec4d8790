"""Which host an address belongs to."""

from __future__ import annotations

import pytest

from crawler.hosts import host_of, registrable_host


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("cdn.shop.co.uk:8080", "shop.co.uk"),
        ("WWW.Example.ORG.", "example.org"),
        ("user:secret@img.example.org", "example.org"),
        ("a.github.io", "a.github.io"),
        ("bücher.example.de", "example.de"),
        ("www.bücher.de", "xn--bcher-kva.de"),
        ("127.0.0.2:9000", "127.0.0.2"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("localhost:8000", "localhost"),
        ("co.uk", "co.uk"),
    ],
)
def test_a_host_counts_as_what_somebody_registered(host: str, expected: str) -> None:
    assert registrable_host(host) == expected


@pytest.mark.parametrize("url", ["data:image/png;base64,AA==", "http://[nonsense/a.jpg", ""])
def test_an_address_without_a_host_belongs_to_none(url: str) -> None:
    assert host_of(url) == ""
