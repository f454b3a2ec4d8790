"""What can go wrong, as one small tree.

    CratedigError                 one sentence: what, which, and what to do
    ├── Transient                 a rerun may mend it; retried
    │   ├── StoreUnavailable      the object store did not answer, or answered 5xx
    │   └── CommitConflict        other writers kept winning a table's commits
    └── Permanent                 no rerun can mend it; told to the user
        ├── SettingsInvalid       a CRATEDIG_ variable is not usable
        ├── NoStore               no object store is configured
        ├── ProjectInvalid        project.toml is missing or not usable
        ├── StoreRefused          the store does not accept the keys
        ├── BucketMissing         the store has no such bucket
        ├── UnsafeStore           the store lets two conditional puts both win
        ├── NotFound              no object, image or row by that name
        ├── Corrupt               stored bytes are not those that were stored
        └── SchemaTooNew          a table was written by a newer cratedig

Only `Transient` is retried.
"""

from __future__ import annotations


class CratedigError(Exception):
    """An error that is told to the user as it stands: one sentence, no traceback."""


class Transient(CratedigError):
    """A rerun may mend it."""


class StoreUnavailable(Transient):
    """The object store did not answer, or answered with 5xx, after every retry."""


class CommitConflict(Transient):
    """Other writers kept winning the commits of a table, for every retry."""


class Permanent(CratedigError):
    """No rerun can mend it: something must be changed first."""


class SettingsInvalid(Permanent):
    """A CRATEDIG_ variable holds a value that cannot be used."""


class NoStore(Permanent):
    """No object store is configured."""


class ProjectInvalid(Permanent):
    """`project.toml` is missing or not usable; a line for each thing that is wrong."""


class StoreRefused(Permanent):
    """The store does not accept the keys, or they do not permit what was asked."""


class BucketMissing(Permanent):
    """The store has no such bucket."""


class UnsafeStore(Permanent):
    """The store ignores conditions on puts, so that two writers could both win."""


class NotFound(Permanent):
    """There is no object, image or row by that name."""


class Corrupt(Permanent):
    """Stored bytes are not the bytes that were stored."""


class SchemaTooNew(Permanent):
    """A table was written by a newer cratedig."""
