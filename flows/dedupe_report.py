"""A page that shows groups of duplicates side by side; it needs no other file and no network."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable

from jinja2 import Environment


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One file on the page."""

    name: str
    width: int
    height: int
    size_bytes: int
    how: str
    """"kept", or how it was recognised."""
    distance: int
    """Bits of pHash that differ from the kept picture's."""
    thumbnail: bytes
    """JPEG."""

    @property
    def data_url(self) -> str:
        """The thumbnail, as an address that holds it."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.thumbnail).decode()}"


def report_page(title: str, summary: str, groups: Iterable[list[Shown]]) -> str:
    """Return the page as HTML; the first of each group is the one that stays."""
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(title=title, summary=summary, groups=groups)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates in {{ title }}</title>
<style>
  body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #1d1d1f; background: #fafafa }
  h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 0 0 .6rem }
  section { background: #fff; border: 1px solid #ddd; border-radius: 8px; padding: 1rem; margin: 1rem 0 }
  .row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end }
  figure { margin: 0; max-width: 256px } img { display: block; max-width: 100%; border: 3px solid #ddd }
  .kept img { border-color: #1a7f37 } .kept b { color: #1a7f37 }
  figcaption { font-size: .85rem; overflow-wrap: anywhere; margin-top: .3rem } p { color: #555 }
</style>
<h1>Duplicates in {{ title }}</h1>
<p>{{ summary }}. In each group the first one stays; nothing has been changed.</p>
{% for group in groups %}
<section>
  <h2>Group {{ loop.index }}: {{ group | length }} files</h2>
  <div class="row">
  {% for each in group %}
    <figure class="{{ 'kept' if loop.first else 'other' }}">
      <img src="{{ each.data_url }}" alt="">
      <figcaption>{{ each.name }}<br>{{ each.width }} x {{ each.height }},
        {{ (each.size_bytes / 1000) | round(1) }} kB<br>
        <b>{{ 'stays' if loop.first else each.how }}</b>
        {%- if not loop.first %}, {{ each.distance }} bits{% endif %}</figcaption>
    </figure>
  {% endfor %}
  </div>
</section>
{% else %}
<p>There are none.</p>
{% endfor %}
</html>
"""
