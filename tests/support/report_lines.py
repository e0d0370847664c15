"""Lines of reports as a run would write them, made up: small ones for one case, and large ones that look real."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Line = Mapping[str, Any]

MADE = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def head(**fields: object) -> Line:
    return {
        "type": "run",
        "policy": "02f9fa88-3558-527b-a226-926f6714efef",
        "registry": "registry.example.com",
        "run": "20260302-093000-bcdc5b",
        "planOnly": True,
        "plan": "676770e31a103c4265ddaa6f2f6e4c3234b991ccf4da7437de3f4a0ffcd0b316",
        "generatedAt": MADE.isoformat(),
        "reclaimableBytesEstimate": 0,
        "untaggedManifestsLeft": 0,
        "repositoriesCut": 0,
    } | fields


def tag(repository: str, name: str, reason: str, days: float | None = None, **fields: object) -> Line:
    """Return the line of a tag: one that goes where the reason is one of those, else one that is kept."""
    line: dict[str, Any] = {"type": "tag", "repository": repository, "tag": name}
    if reason in ("OlderThan", "BeyondMostRecent"):
        line |= {"verdict": "Prune", "reasons": [reason], "rule": "builds"}
    else:
        line |= {"verdict": "Keep", "reason": reason}
    line["digest"] = f"sha256:{hashlib.sha256(f'{repository}:{name}'.encode()).hexdigest()}"
    if days is not None:
        line |= {"date": (MADE - timedelta(days=days)).isoformat(), "dateSource": "Created"}
    return line | fields


def large(tags: int, repositories: int, *, seed: int = 1) -> Iterator[Line]:
    """Yield a plan as large as this: builds of each repository, its releases, what runs, and what says no date."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    yield head(reclaimableBytesEstimate=tags * 41_000_000)
    shares = [chance.paretovariate(1.1) for _ in range(repositories)]
    whole = sum(shares)
    for number, share in enumerate(shares):
        yield from _repository(chance, f"{_word(chance)}/{_word(chance)}-{number}", max(3, round(tags * share / whole)))
    yield {"type": "incomplete", "repository": "legacy/monolith", "reason": "ManifestUnknown", "tags": 214}


_WORDS = (
    "shop",
    "billing",
    "search",
    "web",
    "api",
    "worker",
    "mail",
    "ledger",
    "auth",
    "media",
    "cart",
    "edge",
    "data",
)
_DEPLOYED = ("Deployment shop/web", "StatefulSet billing/ledger", "CronJob mail/digest", "ReplicaSet shop/web-5d8f")


def _word(chance: random.Random) -> str:
    return chance.choice(_WORDS)


def _repository(chance: random.Random, name: str, tags: int) -> Iterator[Line]:
    span = chance.choice((90, 400, 1100, 1900))
    size = chance.randrange(8, 900) * 1_000_000
    held = []
    for number in range(tags):
        days = span * (1 - number / tags) ** 1.6 + chance.random()
        dice = chance.random()
        fields: dict[str, Any] = {"size": round(size * chance.uniform(0.8, 1.2))}
        if number % 40 == 7:
            yield tag(name, f"v{number // 400}.{number // 40 % 10}.0", "Unmatched", **fields)
        elif dice < 0.02:
            users = chance.sample(_DEPLOYED, chance.randrange(1, 4))
            more = {"moreUsers": chance.randrange(1, 9)} if len(users) == 3 else {}
            yield tag(name, f"build-{number}", "InUse", days, rule="builds", users=users, **more, **fields)
        elif dice < 0.05:
            yield tag(name, f"build-{number}", "SharedDigest", days, rule="builds", **fields)
        elif dice < 0.055:
            yield tag(name, f"build-{number}", "UnknownDate", rule="builds", **fields)
        elif number > tags - 4:
            yield tag(name, f"build-{number}", "MostRecent", days, rule="builds", **fields)
        elif days < 30:
            yield tag(name, f"build-{number}", "NotOldEnough", days, rule="builds", **fields)
        else:
            yield tag(name, f"build-{number}", "OlderThan", days, **fields)
            if days < 33:
                held.append(f"build-{number}")
    for waiting in held:
        yield {"type": "held", "repository": name, "tag": waiting, "reason": "GracePeriod"}
