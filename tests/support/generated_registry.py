"""Random content on a real registry, random changes of it, and what is there, read by a client that is not ours.

Everything is chosen by a `Random` that a test hands in, so that a seed or hypothesis decides. What was pushed is known
from pushing it (`Yard.facts`), and never read back: a mistake of a reader must not hide itself.
"""

import hashlib
import http.client
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Lock, RLock
from typing import Any

from tests.support.images import MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LAYER_CONTENT = b"the only layer"
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_CREATED = "org.opencontainers.image.created"
_START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

TAGS = [
    *("latest", "main", "nightly", "keep-1", "release"),
    *("v1.0.0", "v1.2.0", "v1.10.0", "v2.0.0-rc.1", "v2.0.0", "2.1.0"),
    *(f"pr-{number}" for number in range(1, 6)),
    *(f"build-{number}" for number in range(1, 6)),
]
# Half days, so that no age comes near one that a rule names while a test runs.
_AGES = [0.5, 3.5, 10.5, 20.5, 40.5, 60.5, 100.5]
_ODD_DATES = [None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "yesterday", "2999-01-01T00:00:00Z"]


class Wire:
    """Plain requests to one registry, one after the other on one connection: some thousands have to cost little."""

    def __init__(self, host: str) -> None:
        """Talk to `host`, address and port."""
        self._connection = http.client.HTTPConnection(host, timeout=30)
        self._lock = Lock()

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return status, headers and body of the answer, whatever they are."""
        with self._lock:
            self._connection.request(method, path, body, dict(headers or {}))
            answer = self._connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def expect(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "application/octet-stream"
    ) -> http.client.HTTPMessage:
        """Send what must succeed and return the headers of the answer."""
        status, found, content = self.send(method, path, body, {"Content-Type": media_type})
        assert status < 300, f"{method} {path}: {status} {content!r}"
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def seeded(seed: int | str) -> Random:
    """Return what chooses the same each time."""
    return Random(seed)  # noqa: S311 - chooses what a test does, and hides nothing


@dataclass(frozen=True)
class Fact:
    """What is known of a manifest from having pushed it.

    Attributes:
        word: Names it in the same way each time, unlike its digest, which holds dates.
        children: What it lists, in its order.
        created: What its config says, None where that is no date; of an index the newest of its platforms.
        subject: What it refers to.
        body: Its bytes, to be pushed again under another tag.
        media_type: With them.
    """

    word: str
    children: tuple[str, ...]
    created: datetime | None
    subject: str | None
    body: bytes = field(repr=False)
    media_type: str = field(repr=False)


@dataclass
class Yard:
    """One repository of a real registry, as the tests' own hands fill, change and read it.

    Attributes:
        wire: To the registry itself, past every proxy.
        repository: Its name.
        facts: By digest, of everything that was ever pushed.
    """

    wire: Wire
    repository: str
    facts: dict[str, Fact] = field(default_factory=dict)
    _blobs: set[str] = field(default_factory=set)
    _pushed: int = 0

    # Pushing

    def image(
        self,
        *tags: str,
        created: datetime | str | None = None,
        annotated: bool = False,
        subject: str | None = None,
        platform: str = "linux",
    ) -> str:
        """Push an image unlike every other, say when it was created, and return its digest."""
        word = self._word("image")
        text = created.isoformat() if isinstance(created, datetime) else created
        config = {"os": platform, "architecture": "amd64", "word": word}
        manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
        if text is not None and annotated:
            manifest["annotations"] = {_CREATED: text}
        elif text is not None:
            config["created"] = text
        manifest |= {"config": self._blob(_encoded(config), _CONFIG), "layers": [self._blob(_LAYER_CONTENT, _LAYER)]}
        if subject is not None:
            manifest["subject"] = self._descriptor(subject)
        fact = Fact(word, (), _date(text), subject, _encoded(manifest), OCI_MANIFEST)
        return self._manifest(fact, tags)

    def index(self, *tags: str, children: Sequence[str], attestation: str | None = None) -> str:
        """Push an index of these children, with an attestation as BuildKit writes it where one is given."""
        entries = [self._descriptor(child) | {"platform": {"os": "linux", "architecture": "any"}} for child in children]
        if attestation is not None:
            unknown = {"os": "unknown", "architecture": "unknown"}
            entries.append(self._descriptor(attestation) | {"platform": unknown})
        word = self._word("index")
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": {"word": word}}
        dates = [self.facts[child].created for child in children]
        known = [date for date in dates if date is not None]
        created = max(known) if known and len(known) == len(dates) else None
        listed = (*children, *([attestation] if attestation else []))
        return self._manifest(Fact(word, listed, created, None, _encoded(body), OCI_INDEX), tags)

    def tag(self, tag: str, digest: str) -> None:
        """Let `tag` name a manifest that was pushed before; what it lists is pushed again first, as any client does."""
        fact = self.facts[digest]
        for child in fact.children:
            self.tag(child, child)
        self._put(tag, fact)

    def untag(self, tag: str, *, by_digest: bool) -> set[str]:
        """Delete a tag as a person would, with all others on its digest where there is no other way."""
        there = self.tags()
        reference = there[tag] if by_digest else tag
        self.wire.expect("DELETE", self._path(reference))
        return {each for each, digest in there.items() if digest == there[tag]} if by_digest else {tag}

    # Reading

    def tags(self) -> dict[str, str]:
        """Return the digest of every tag that is there now."""
        status, _, body = self.wire.send("GET", f"/v2/{self.repository}/tags/list")
        assert status == 200, body
        found = {tag: self.resolve(tag) for tag in json.loads(body)["tags"] or ()}
        return {tag: digest for tag, digest in found.items() if digest is not None}

    def resolve(self, reference: str) -> str | None:
        """Return what a tag or digest names now, None if it is not there."""
        status, headers, _ = self.wire.send("HEAD", self._path(reference), headers=_ACCEPT)
        assert status in (200, 404), f"{reference}: {status}"
        return headers["Docker-Content-Digest"] if status == 200 else None

    def present(self) -> set[str]:
        """Return which of all the manifests that were ever pushed are there now."""
        return {digest for digest in self.facts if self.resolve(digest) is not None}

    def below(self, digests: Iterable[str]) -> set[str]:
        """Return these manifests and all that they list, nested too."""
        found, pending = set[str](), list(digests)
        while pending:
            digest = pending.pop()
            if digest not in found:
                found.add(digest)
                pending.extend(self.facts[digest].children)
        return found

    def word(self, reference: str) -> str:
        """Return a name of a tag or digest that is the same each time, whatever the date is."""
        if reference in self.facts:
            return self.facts[reference].word
        for digest, fact in self.facts.items():
            if reference.startswith(digest.replace(":", "-")):
                return f"about {fact.word}"
        return "of nothing" if ":" in reference or reference.startswith("registry-cleanup-probe") else reference

    def _path(self, reference: str) -> str:
        return f"/v2/{self.repository}/manifests/{reference}"

    def _word(self, kind: str) -> str:
        self._pushed += 1
        return f"{kind} {self._pushed}"

    def _descriptor(self, digest: str) -> dict[str, Any]:
        fact = self.facts[digest]
        return {"mediaType": fact.media_type, "digest": digest, "size": len(fact.body)}

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = _digest(content)
        if digest not in self._blobs:
            place = self.wire.expect("POST", f"/v2/{self.repository}/blobs/uploads/")["Location"]
            self.wire.expect("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", content)
            self._blobs.add(digest)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _manifest(self, fact: Fact, tags: Sequence[str]) -> str:
        digest = _digest(fact.body)
        for reference in tags or [digest]:
            self._put(reference, fact)
        self.facts[digest] = fact
        return digest

    def _put(self, reference: str, fact: Fact) -> None:
        self.wire.expect("PUT", self._path(reference), fact.body, fact.media_type)


def fill(yard: Yard, random: Random) -> None:
    """Push images, indexes (nested, shared children, attestations), tags that share digests, and referrers."""
    images = [yard.image(**_dated(random)) for _ in range(random.randint(3, 7))]
    things = list(images)
    for _ in range(random.randint(0, 2)):
        children = [random.choice(images) if random.random() < 0.6 else yard.image(**_dated(random)) for _ in range(2)]
        attestation = yard.image(platform="unknown") if random.random() < 0.3 else None
        things.append(yard.index(children=list(dict.fromkeys(children)), attestation=attestation))
    if len(things) > len(images) and random.random() < 0.4:
        things.append(yard.index(children=[things[-1], random.choice(images)]))
    for tag in random.sample(TAGS, random.randint(5, 12)):
        yard.tag(tag, random.choice(things))
    for number in range(random.choice([0, 0, 1, 2, 3])):
        refer(yard, random, random.choice(things), number)


def refer(yard: Yard, random: Random, subject: str, number: int) -> list[str]:
    """Push a referrer in one of the ways that clients have; return the tags that came with it."""
    schema = subject.replace(":", "-")
    way = random.randrange(4)
    if way == 0:
        tag = schema + random.choice([".sig", ".att", ".sbom"])
        yard.image(tag)
    elif way == 1:  # the OCI distribution specification's fall-back, "Referrers Tag Schema"
        tag = schema
        yard.index(tag, children=[yard.image(subject=subject)])
    elif way == 2:
        tag = f"build-sbom-{number}"
        yard.image(tag, subject=subject)
    else:  # signs what refers to the image
        tag = f"{yard.image(schema + '.sbom').replace(':', '-')}.sig"
        yard.image(tag)
        return [schema + ".sbom", tag]
    return [tag]


def _dated(random: Random) -> dict[str, Any]:
    if random.random() < 0.1:
        return {"created": random.choice(_ODD_DATES)}
    return {"created": _START - timedelta(days=random.choice(_AGES)), "annotated": random.random() < 0.3}


# Changes, as people and pipelines make them at any time


@dataclass
class Changes:
    """What a test did to a repository while it was looked after.

    Attributes:
        yard: The repository.
        random: Chooses.
        by_digest: Whether the registry deletes by digest only.
        expected: What every tag would name now, had nobody but the test touched it.
        touched: Tags that the test pushed, moved or deleted.
        removed: Digests that the test itself deleted.
        aims: Tags that are to go, with their digests: where a change hurts the most.
    """

    yard: Yard
    random: Random
    by_digest: bool
    expected: dict[str, str]
    touched: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    aims: dict[str, str] = field(default_factory=dict)

    # Runs read with several requests at a time; changes come one after the other.
    _lock: RLock = field(default_factory=RLock)

    def anything(self) -> None:
        """Push, move, retag or delete."""
        with self._lock:
            self._anything()

    def _anything(self) -> None:
        some, known = self._something_there(), sorted(self.yard.present(), key=self.yard.word)
        aimed = [digest for digest in known if digest in self.aims.values()] or known
        choice = self.random.randrange(7)
        if choice == 0 and some is not None:
            self._delete(some)
        elif choice == 1 and aimed:
            self._name(self._any_tag(), self.random.choice(aimed))
        elif choice == 2 and known:
            self._name(self._any_tag(), self.random.choice(known))
        elif choice == 3 and known:
            listed = dict.fromkeys([self.random.choice(aimed), self.random.choice(known)])
            self._name(self.random.choice(TAGS), self.yard.index(children=list(listed)))
        else:
            self.harmless()

    def harmless(self, but: Iterable[str] = ()) -> None:
        """Let a tag, none of `but`, name an image that was never there before."""
        with self._lock:
            tag = self._any_tag()
            if tag not in but:
                self.move(tag)

    def move(self, tag: str) -> None:
        """Let this tag name an image that was never there before."""
        with self._lock:
            self._name(tag, self.yard.image(**_dated(self.random)))

    def move_one(self, random: Random, but: str) -> None:
        """Let one of the tags that are there, not `but`, name an image that was never there before."""
        with self._lock:
            there = sorted(self.yard.tags().keys() - {but})
            if there:
                self.move(random.choice(there))

    def _any_tag(self) -> str:
        some = self._something_there()
        return some if some is not None and self.random.random() < 0.6 else self.random.choice(TAGS)

    def _something_there(self) -> str | None:
        there = self.yard.tags()
        aimed = there.keys() & self.aims.keys() if self.random.random() < 0.7 else set()
        names = sorted(aimed or there, key=self.yard.word)
        return self.random.choice(names) if names else None

    def _name(self, tag: str, digest: str) -> None:
        self.yard.tag(tag, digest)
        self.expected[tag] = digest
        self.touched.add(tag)

    def _delete(self, tag: str) -> None:
        there = self.yard.tags()
        listed = {child for fact in self.yard.facts.values() for child in fact.children}
        if self.by_digest and there[tag] in listed:
            return  # the test would break an index itself
        if self.by_digest:
            self.removed.add(there[tag])
        for gone in self.yard.untag(tag, by_digest=self.by_digest):
            self.expected.pop(gone, None)
            self.touched.add(gone)


def _date(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
