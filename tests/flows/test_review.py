"""Decision files: what is wrong with them is said by line, and nothing is half applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import Permanent
from flows.review import read_decisions


def test_a_decision_file_is_read(tmp_path: Path) -> None:
    """Columns go by name; others are ignored."""
    path = tmp_path / "decisions.csv"
    path.write_text("label,image,answer,note\nvinyl,abc,yes,sure\n")
    (answered,) = read_decisions(path)
    assert (answered.image, answered.label, answered.answer) == ("abc", "vinyl", "yes")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("image,answer\nabc,yes\n")
    with pytest.raises(Permanent, match="has no column label"):
        list(read_decisions(path))


def test_an_answer_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("image,label,answer\nabc,vinyl,yes\nabc,vinyl,perhaps\n")
    with pytest.raises(Permanent, match=r"line 3.*'perhaps'"):
        list(read_decisions(path))


def test_an_empty_file_is_not_taken_for_no_decisions(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("")
    with pytest.raises(Permanent, match="has no column"):
        list(read_decisions(path))
