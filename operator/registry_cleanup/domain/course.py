"""Where a run is while it goes on, how fast it goes and how long its stage still takes: counters and values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum

# Seconds of a stage after which its rate says how long it still takes.
_TELLING = 10.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Stage(Enum):
    """What a run is at."""

    LOOKING = "Looking"  # what is in use, which repositories there are, who else prunes there
    WAITING = "Waiting"  # for another run that prunes in the same repositories
    PLANNING = "Planning"
    PRUNING = "Pruning"


@dataclass(slots=True, eq=False)
class Reading:
    """How far the reading of one repository has come; whoever reads counts on.

    Attributes:
        tags: listed there; None before.
        wanted: steps that it takes, at first as many as it may take at most.
        done: steps that were taken, most of them a request.
    """

    tags: int | None = None
    wanted: int = 0
    done: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        if self.tags is None:
            return 0.0
        return min(self.done / self.wanted, 1.0) if self.wanted else 1.0


@dataclass(slots=True)
class Readings:
    """How far the reading of repositories has come, one after the other or several at a time.

    Attributes:
        ended: so many repositories were read, or could not be.
        tags: listed in those.
    """

    ended: int = 0
    tags: int = 0
    _open: list[Reading] = field(default_factory=list)

    def begin(self) -> None:
        """Count anew."""
        self.ended = self.tags = 0

    @contextmanager
    def one(self) -> Iterator[Reading]:
        """Read one more repository."""
        reading = Reading()
        self._open.append(reading)
        try:
            yield reading
        finally:
            self._open.remove(reading)
            self.ended += 1
            self.tags += reading.tags or 0

    @property
    def repositories_read(self) -> float:
        """So many repositories were read, those under way in part."""
        return self.ended + sum(reading.share for reading in self._open)

    @property
    def tags_read(self) -> int:
        """So many tags were read; of a tag that takes several steps, a part counts."""
        return self.tags + sum(int(reading.share * (reading.tags or 0)) for reading in self._open)

    def tags_of_all(self, repositories: int) -> int | None:
        """Return how many tags so many repositories have; None while some of them are not listed."""
        listed = [reading.tags for reading in self._open if reading.tags is not None]
        return self.tags + sum(listed) if self.ended + len(listed) >= repositories else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a run has come to at one instant.

    Attributes:
        stage: what it is at.
        repositories: that it takes; None before they are known.
        repositories_done: of which a plan, or why there is none, is there.
        tags: of all its repositories; None while some of them are not listed.
        tags_read: so far.
        tags_to_prune: that the guards let through; None before they have spoken.
        tags_pruned: of those.
        share: how much of the stage is done, from 0 to 1; None where nobody can tell.
        requests: that were sent to the registry so far.
    """

    stage: Stage
    repositories: int | None = None
    repositories_done: int = 0
    tags: int | None = None
    tags_read: int = 0
    tags_to_prune: int | None = None
    tags_pruned: int = 0
    share: float | None = None
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What people are told of a run that goes on.

    Attributes:
        snapshot: what it has come to.
        requests_per_second: to the registry, lately.
        remaining: seconds that its stage still takes, about; None where that cannot be known (yet).
    """

    snapshot: Snapshot
    requests_per_second: int
    remaining: int | None = None

    @property
    def message(self) -> str:
        """One line for people."""
        parts = [_work(self.snapshot)]
        if self.snapshot.stage is not Stage.WAITING:
            parts.append(f"{self.requests_per_second:,} requests/s")
        if self.remaining:
            parts.append(f"{_about(self.remaining)} left")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Course:
    """What was seen of a run: now, the last time before, and when its present stage was seen first.

    Attributes:
        began, before, now: what was seen.
        began_at, before_at, now_at: when, in seconds by a clock that nobody sets.
    """

    began: Snapshot
    began_at: float
    before: Snapshot
    before_at: float
    now: Snapshot
    now_at: float

    @classmethod
    def begin(cls, now: Snapshot, at: float) -> Course:
        """Return the course of a run that was never looked at before."""
        return cls(now, at, now, at, now, at)

    def next(self, now: Snapshot, at: float) -> Course:
        """Return the course with one more look at the run."""
        if now.stage is not self.now.stage:
            return Course(now, at, self.now, self.now_at, now, at)
        return replace(self, before=self.now, before_at=self.now_at, now=now, now_at=at)

    @property
    def progress(self) -> Progress:
        """What to tell by all that was seen."""
        seconds = self.now_at - self.before_at
        rate = (self.now.requests - self.before.requests) / seconds if seconds > 0 else 0.0
        return Progress(self.now, max(round(rate), 0), self._remaining())

    def _remaining(self) -> int | None:
        """Return how long the stage still takes at the rate that it has had since it began."""
        seconds = self.now_at - self.began_at
        if self.now.share is None or seconds < _TELLING:
            return None
        gained = self.now.share - (self.began.share or 0.0)
        return round(seconds * (1 - self.now.share) / gained) if gained > 0 else None


def _work(snapshot: Snapshot) -> str:
    match snapshot.stage:
        case Stage.LOOKING:
            return "looking: what is in use, and which repositories there are"
        case Stage.WAITING:
            return "waiting: another run prunes in the same repositories"
        case Stage.PLANNING:
            number = snapshot.repositories or 0
            repositories = (
                f"{snapshot.repositories_done:,} of {number:,} {_plural(number, 'repository', 'repositories')}"
            )
            return f"planning: {repositories}, {_number_of_tags(snapshot.tags_read, snapshot.tags)}"
        case Stage.PRUNING:
            return f"pruning: {_number_of_tags(snapshot.tags_pruned, snapshot.tags_to_prune)}"


def _number_of_tags(number: int, whole: int | None) -> str:
    if whole is None:
        return f"{number:,} {_plural(number, 'tag', 'tags')}"
    return f"{number:,} of {whole:,} {_plural(whole, 'tag', 'tags')}"


def _plural(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _about(seconds: int) -> str:
    """Return a duration as exactly as an estimate deserves."""
    tens = -(-seconds // 10) * 10
    if tens < _MINUTE:
        return f"about {tens} s"
    minutes = round(seconds / _MINUTE)
    if minutes < _HOUR // _MINUTE:
        return f"about {max(minutes, 1)} min"
    hours = round(seconds / _HOUR)
    if hours < _DAY // _HOUR:
        return f"about {hours} h"
    return f"about {(days := round(seconds / _DAY))} {_plural(days, 'day', 'days')}"
