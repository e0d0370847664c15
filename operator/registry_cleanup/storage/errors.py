"""What goes wrong with the files of a storage.

StorageError
├── UnknownLayoutError    not the layout that we know: nothing is touched
├── DoubtError            one repository cannot be read whole: it is kept
├── VolumeError           the volume refuses: full, read-only, not ours, two volumes
├── TrashError            a trash that is not there, of another plan, or damaged
├── HeldBackError         not now: another command works on the trash, or the run was restored
└── WritableError         the registry takes pushes, or does not say that it takes none
"""

from __future__ import annotations


class StorageError(Exception):
    """The storage cannot be worked on; the message is for people."""


class UnknownLayoutError(StorageError):
    """The storage is not laid out as Docker Distribution does it."""


class DoubtError(StorageError):
    """What a repository holds could not be read whole."""


class VolumeError(StorageError):
    """The volume does not let us do what we have to."""


class TrashError(StorageError):
    """The trash does not hold what was asked for."""


class HeldBackError(StorageError):
    """What was asked for has to wait for somebody."""


class WritableError(StorageError):
    """The registry may change the storage meanwhile."""
