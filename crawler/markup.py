"""HTML text parsed, and words taken from it: whatever it is, nothing is raised."""

from __future__ import annotations

from lxml import etree, html


def parse_html(text: str) -> html.HtmlElement:
    """Return the document that `text` is, or is a part of; an empty one if there is no element."""
    # As bytes: a page that declares another encoding has been decoded already, and must not be
    # decoded twice. libxml2 stops at a NUL.
    data = text.replace("\0", "").encode("utf-8", errors="replace")
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        return html.document_fromstring(data, parser=parser)
    except etree.ParserError:  # no element in it
        return html.document_fromstring(b"<html></html>", parser=parser)


def words(text: str) -> str:
    """Return `text` with its white space collapsed, as what UTF-8 can say.

    JSON may hold half of a surrogate pair, where somebody cut an emoji in two.
    """
    return " ".join(text.split()).encode("utf-8", errors="replace").decode()
