"""JSON files are read an entry at a time: the same values, wherever a read ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import Permanent
from flows.exchange import json_stream
from flows.exchange.json_stream import ListWriter, entries

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sections=st.dictionaries(st.text(), st.lists(values, max_size=4), max_size=3),
    read=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
)
def test_the_entries_are_those_of_the_file(
    sections: dict[str, list[object]],
    read: int,
    indent: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_stream, "_READ", read)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(sections, indent=indent))
    found: dict[str, list[object]] = {section: [] for section in sections}
    for entry in entries(path):
        assert entry.key == len(found[entry.section])
        found[entry.section].append(entry.value)
    assert found == sections


def test_what_is_written_an_entry_at_a_time_is_one_list(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for count in range(3):
        with path.open("w") as file, ListWriter(file) as writer:
            for each in range(count):
                writer.add({"number": each})
        assert json.loads(path.read_text()) == [{"number": each} for each in range(count)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''"),
        ("nonsense", "begins with 'n'"),
        ('[1, 2, {"a"', r"file.json \[2\]: not JSON"),
        ('{"images": [1, 2', r"images\[1\]: not JSON: expected , or \] but the file ends"),
        ('{"images": [1]} x', "there is more after its end"),
        ("[" + "[" * 100_000, r"\[0\]: not JSON"),
    ],
)
def test_what_is_no_json_is_told_by_its_place(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(Permanent, match=said):
        list(entries(path))
