"""What a picture file says about itself, beside what it forbids (`test_consent_signals.py`)."""

from __future__ import annotations

import pytest

from crawler.about import About
from crawler.embedded import NO_RIGHTS, read_rights
from tests.crawler.pictures import encoded, picture
from tests.crawler.rights import file_with_xmp, jpeg_with_c2pa, mining, xmp

_RIGHTS = xmp(
    """<dc:creator><rdf:Seq><rdf:li>Ann</rdf:li><rdf:li>Ben</rdf:li></rdf:Seq></dc:creator>
    <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) Ann</rdf:li><rdf:li xml:lang="de">(c) Anna</rdf:li>
    </rdf:Alt></dc:rights>
    <plus:Licensor><rdf:Seq><rdf:li rdf:parseType="Resource">
    <plus:LicensorURL>https://shop.example/buy</plus:LicensorURL></rdf:li></rdf:Seq></plus:Licensor>""",
    'xmpRights:WebStatement="https://shop.example/terms"',
)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_licence_fields_of_a_file(format_name: str) -> None:
    """IPTC's, as schema.org has them for pages: of a text in several languages the default one."""
    assert read_rights(file_with_xmp(_RIGHTS, format_name)).about == About(
        license="https://shop.example/terms",
        creator="Ann, Ben",
        credit="(c) Ann",
        acquire_license="https://shop.example/buy",
    )


def test_a_file_that_says_nothing() -> None:
    assert read_rights(encoded(picture(1), "JPEG")) == NO_RIGHTS


def test_statements_are_kept_as_they_were_made() -> None:
    """Permissions too: they are evidence as well."""
    assert read_rights(file_with_xmp(mining("DMI-ALLOWED"))).data_mining == "DMI-ALLOWED"
    uses = {"ai_training": "allowed", "data_mining": "notAllowed"}
    assert dict(read_rights(jpeg_with_c2pa(uses)).training_mining) == uses


def test_entities_in_a_packet_are_not_resolved() -> None:
    packet = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + xmp(
        "<dc:creator>&e;Ann</dc:creator>"
    )
    assert read_rights(file_with_xmp(packet)).about.creator in {"", "Ann"}
