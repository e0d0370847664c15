"""`list` for programs: the document that docs/schemas/list.schema.json describes, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry_cleanup.cli.listing.reading import Look
from registry_cleanup.cli.listing.words import rfc3339
from registry_cleanup.domain.listing import ListedRepository, ListedTag, Sort, totals
from registry_cleanup.domain.rules import plausible
from registry_cleanup.domain.trees import Node, Relation, Trees

_Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is in a document.

    Attributes:
        now: the present, which tells what date can be true.
        sort: of the tags.
        tags: whether tags are told one by one, and not only counted.
        details: whether manifests were read, and not only the names of tags.
        trees: whether what hangs on each tag is told.
    """

    now: datetime
    sort: Sort
    tags: bool
    details: bool
    trees: bool


def document(look: Look, repositories: Sequence[ListedRepository], shape: Shape) -> _Document:
    """Return everything that was found."""
    found = totals(repositories)
    sums: _Document = {"repositories": found.repositories, "tags": found.tags}
    if shape.details:
        sums |= {
            "manifests": found.manifests,
            "namedBytes": found.named_bytes,
            "distinctBytes": found.distinct_bytes,
            "unknownSizes": found.unknown,
        }
    return {
        "registry": look.host,
        "repositories": [_repository(each, shape) for each in repositories],
        "failures": [
            {"repository": each.repository, "reason": each.reason, "message": each.message} for each in look.failures
        ],
        "totals": sums,
    }


def as_csv(repositories: Sequence[ListedRepository], shape: Shape) -> str:
    """Return a line for each repository or tag and, in trees, for each manifest that hangs on it."""
    text = io.StringIO()
    lines = list(_lines(repositories, shape))
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _repository(repository: ListedRepository, shape: Shape) -> _Document:
    found: _Document = {"name": repository.name, "tagCount": len(repository.tags)}
    if shape.details:
        newest = repository.newest(shape.now)
        distinct = repository.distinct
        found |= {
            "newest": None if newest is None else rfc3339(newest),
            "size": distinct.size,
            "sizeKnown": not distinct.unknown and all(tag.digest or tag.dangling for tag in repository.tags),
        }
    if shape.tags:
        trees = Trees(repository)
        found["tags"] = [_tag(repository, trees, tag, shape) for tag in repository.sorted_tags(shape.sort)]
    return found


def _tag(repository: ListedRepository, trees: Trees, tag: ListedTag, shape: Shape) -> _Document:
    if not shape.details:
        return {"name": tag.name}
    manifest = repository.manifests.get(tag.digest) if tag.digest is not None else None
    date = repository.date(tag)
    found: _Document = {
        "name": tag.name,
        "state": "Dangling" if tag.dangling else "NotRead" if tag.digest is None else "Read",
        "digest": tag.digest,
        "format": None if manifest is None else manifest.format.value,
        "mediaType": (manifest.media_type or None) if manifest is not None else None,
        "artifactType": (manifest.artifact_type or None) if manifest is not None else None,
        **_dated(date, shape.now),
        "dateSource": None if date is None else "Pushed" if tag.pushed is not None else "Created",
        "platforms": list(repository.platforms(tag.digest)),
        "size": repository.size(tag.digest),
        "referrerCount": trees.referrer_count(tag.digest),
    }
    if shape.trees:
        found |= _below(repository, trees.of_tag(tag), shape)
    return found


def _below(repository: ListedRepository, node: Node | None, shape: Shape) -> _Document:
    below = () if node is None else node.below
    return {
        "children": [_node(repository, each, shape) for each in below if each.relation is Relation.LISTED],
        "referrers": [_node(repository, each, shape) for each in below if each.relation is Relation.REFERS],
    }


def _node(repository: ListedRepository, node: Node, shape: Shape) -> _Document:
    manifest = repository.manifests.get(node.digest)
    platforms = repository.platforms(node.digest)
    platform = node.child.platform if node.child is not None else None
    return {
        "digest": node.digest,
        "missing": node.digest in repository.missing,
        "format": None if manifest is None else manifest.format.value,
        "mediaType": (manifest.media_type or None) if manifest is not None else None,
        "artifactType": (manifest.artifact_type or None) if manifest is not None else None,
        "tags": list(node.tags),
        "platform": platform or (platforms[0] if len(platforms) == 1 else None),
        **_dated(repository.created(node.digest), shape.now),
        "size": None if manifest is None else repository.size(node.digest),
        **_below(repository, node, shape),
    }


def _dated(date: datetime | None, now: datetime) -> _Document:
    return {"date": None if date is None else rfc3339(date), "dateKnown": plausible(date, now)}


def _lines(repositories: Sequence[ListedRepository], shape: Shape) -> Iterator[Sequence[Any]]:
    if not shape.tags:
        titles = ("repository", "tagCount", *(("newest", "size", "sizeKnown") if shape.details else ()))
        yield titles
        for repository in repositories:
            found = _repository(repository, shape)
            yield ["" if found[key] is None else _cell(found[key]) for key in ("name", *titles[1:])]
        return
    titles = ("repository", "tag", *_DETAILS) if shape.details else ("repository", "tag")
    yield (*titles, "relation", "parent") if shape.trees else titles
    for repository in repositories:
        trees = Trees(repository)
        for tag in repository.sorted_tags(shape.sort):
            found = _tag(repository, trees, tag, shape)
            line = [repository.name, tag.name, *(_cell(found[key]) for key in titles[2:])]
            if not shape.trees:
                yield line
                continue
            yield [*line, Relation.NAMED.value, ""]
            node = trees.of_tag(tag)
            if node is not None:
                yield from _lines_below(repository, tag, node, shape)


def _lines_below(repository: ListedRepository, tag: ListedTag, node: Node, shape: Shape) -> Iterator[Sequence[Any]]:
    for each in node.below:
        found = _node(repository, each, shape)
        found["platforms"] = found["platform"]
        cells = [_cell(found.get(key)) for key in _DETAILS]
        yield [repository.name, tag.name, *cells, each.relation.value, node.digest]
        yield from _lines_below(repository, tag, each, shape)


_DETAILS = (
    "state",
    "digest",
    "format",
    "artifactType",
    "date",
    "dateKnown",
    "dateSource",
    "platforms",
    "size",
    "referrerCount",
)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value)
