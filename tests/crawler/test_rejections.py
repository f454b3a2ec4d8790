"""The vocabulary of rejections."""

from __future__ import annotations

import pickle

from crawler.rejections import ImageRejected, Reason


def test_a_reason_is_its_name_in_lower_case() -> None:
    """Tables and reports show the value, code shows the name: they must be the same word."""
    assert [reason.value for reason in Reason] == [reason.name.lower() for reason in Reason]


def test_an_image_rejection_survives_the_way_between_processes() -> None:
    """Decoding runs in other processes: the exception is pickled back, reason and detail with it."""
    returned = pickle.loads(pickle.dumps(ImageRejected(Reason.CORRUPT, "bad scan line 7")))  # noqa: S301  # our own bytes
    assert (returned.reason, returned.detail) == (Reason.CORRUPT, "bad scan line 7")
    assert str(returned) == "corrupt: bad scan line 7"
