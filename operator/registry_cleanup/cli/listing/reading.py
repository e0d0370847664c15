"""Reading what is to be listed: several repositories at a time, and the errors of each beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.listing import ListedRepository
from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import Lister, RunError, Tell

# As many as a run reads at a time: all of them share the requests that are allowed at a time.
_AT_A_TIME = 4


@dataclass
class Look:
    """What was found.

    Attributes:
        host: as people call the registry.
        repositories: that were read, whole or in part.
        failures: why others were not, or only in part.
        ended: why nothing more was asked; None where everything was.
        unread: number of repositories that were not even begun.
    """

    host: str
    repositories: list[ListedRepository] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    ended: Failure | None = None
    unread: int = 0

    @property
    def notes(self) -> list[str]:
        """What nobody could tell, each said once."""
        return list(dict.fromkeys(note for repository in self.repositories for note in repository.notes))

    def add(self, repository: ListedRepository) -> None:
        """Take note of what was read."""
        self.repositories.append(repository)
        if repository.failure is not None:
            self.fail(repository.failure)

    def fail(self, failure: Failure) -> None:
        """Take note of what went wrong; a registry that is gone need not be asked again."""
        self.failures.append(failure)
        if failure.reachable is False or failure.stops_run or failure.reason == "ImageAPIUnavailable":
            self.ended = failure


async def look(lister: Lister, wanted: RepositoryGlob | None, tell: Tell, *, details: bool) -> Look:
    """Read the repositories that are `wanted`, with `details` or only the names of their tags.

    Raises:
        CommandError, RunError: there is nothing to show at all.
    """
    found = Look(lister.host)
    named = wanted is not None and wanted.literal
    names = await _repositories(lister, wanted)

    async def read(name: str) -> None:
        if found.ended is not None:
            found.unread += 1
            return
        try:
            found.add(await (lister.read(name, tell) if details else lister.names(name)))
        except RunError as error:
            if named:
                raise _of_the_only_one(lister.host, name, error) from error
            if _emptied(error):
                found.add(ListedRepository(name, details=details))
            else:
                found.fail(replace(error.failure, repository=name))
        tell(done=1)

    tell(wanted=len(names))
    await for_each(names, read, _AT_A_TIME)
    return found


async def _repositories(lister: Lister, wanted: RepositoryGlob | None) -> list[str]:
    try:
        names = list(await lister.repositories(wanted))
    except RunError as error:
        if error.failure.reason in ("Denied", "LoginFailed", "NotFound"):
            hint = f"name a repository, as in {lister.host}/team/app, if the registry lists none for you"
            raise CommandError(f"{error.failure.reason}: {error.failure.message}; {hint}", Exit.REGISTRY) from error
        raise
    if not names and wanted is not None:
        raise CommandError(f"no repository of {lister.host} matches {wanted.text!r}", Exit.REGISTRY)
    return names


def _emptied(error: RunError) -> bool:
    """Say whether a repository of the list is not there any more; any other 404 does not say that it is empty."""
    return error.failure.reason == "NotFound" and error.code in ("NAME_UNKNOWN", "NotFound")


def _of_the_only_one(host: str, name: str, error: RunError) -> CommandError:
    failure = error.failure
    if failure.reason != "NotFound":
        return CommandError(f"{failure.reason}: {failure.message}", Exit.REGISTRY)
    message = f"{host} has no repository {name!r}, or does not show it to you"
    return CommandError(f"{message}; what is below it: registry-cleanup list '{host}/{name}/**'", Exit.REGISTRY)
