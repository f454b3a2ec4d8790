"""What the note of a decision says: its kind, and the id under which a page handed it in.

    ""                    a plain answer
    retracted             the answer (an "unsure") takes an earlier one back
    again                 a second answer, given blind; it measures, and never stands
    again retracted       takes such an answer back
    settled               given with the others' answers in view: it ends a disagreement
    renamed from <label>  the answer was given to another label, which this one has taken over

behind which ` #<id>` may follow. The table of decisions is append-only and knows yes, no and
unsure; what else there is to say of an answer is said here, so that older tables stay readable.
"""

from __future__ import annotations

import re

RETRACTED = "retracted"
AGAIN = "again"
AGAIN_RETRACTED = "again retracted"
SETTLED = "settled"
_RENAMED = "renamed from "
_ID = re.compile(r"(?:^| )#([0-9a-z-]{8,64})$")


def note_of(kind: str, decision_id: str) -> str:
    """Return the note of a decision of that kind, handed in under that id."""
    return f"{kind} #{decision_id}".lstrip()


def renamed_from(label: str) -> str:
    """Return the kind of a decision that was given to `label` when that had its own name."""
    return _RENAMED + label


def kind_of(note: str) -> str:
    """Return what the note says but for the id."""
    return _ID.sub("", note)


def id_of(note: str) -> str:
    """Return the id under which the decision was handed in; empty for one without."""
    found = _ID.search(note)
    return found.group(1) if found else ""


def stands(note: str) -> bool:
    """Say whether the decision counts; one given blind for the sake of measuring does not."""
    return kind_of(note) not in (AGAIN, AGAIN_RETRACTED)
