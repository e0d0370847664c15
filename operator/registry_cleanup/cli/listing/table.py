"""`list` as a table for people: repositories, tags, or trees of what hangs on them, and the totals below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry_cleanup.cli.listing.words import (
    UNKNOWN,
    age_text,
    date_text,
    digest_text,
    kind_text,
    size_text,
    tag_text,
)
from registry_cleanup.cli.output.columns import Column, Fitted, fit
from registry_cleanup.domain.listing import ListedRepository, ListedTag, Sort, totals
from registry_cleanup.domain.trees import Node, Relation, Trees


@dataclass(frozen=True, slots=True)
class Style:
    """How a table is written.

    Attributes:
        now: the present, for ages.
        width: of the terminal; None where it is none.
        whole: whether digests, tags and times are written out.
        with_repository: whether tags are shown with their repository, since there are several.
    """

    now: datetime
    width: int | None = None
    whole: bool = False
    with_repository: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """One manifest, or a tag that names none that was read."""

    label: str
    digest: str
    date: str
    age: str
    platforms: tuple[str, ...]
    size: str
    referrers: str


@dataclass(frozen=True, slots=True)
class _Shown:
    """A repository, and how it is shown."""

    repository: ListedRepository
    trees: Trees
    style: Style


def repositories_table(repositories: Sequence[ListedRepository], style: Style, *, details: bool) -> Fitted:
    """Return one line for each repository."""
    columns = [
        Column("REPOSITORY", [each.name for each in repositories]),
        Column("TAGS", [str(len(each.tags)) for each in repositories], right=True),
    ]
    if details:
        newest = [each.newest(style.now) for each in repositories]
        columns += [
            Column("NEWEST", [date_text(date, style.now, whole=style.whole) for date in newest]),
            Column("AGE", [age_text(date, style.now) for date in newest], right=True, rank=2),
            Column("SIZE", [_repository_size(each) for each in repositories], right=True),
        ]
    return fit(columns, style.width)


def tags_table(repositories: Sequence[ListedRepository], by: Sort, style: Style, *, trees: bool) -> Fitted:
    """Return one line for each tag or, as `trees`, for each manifest with what hangs on it below."""
    rows: list[_Row] = []
    pushed = False
    for repository in repositories:
        tags = repository.sorted_tags(by)
        pushed = pushed or any(tag.pushed is not None for tag in tags)
        shown = _Shown(repository, Trees(repository), style)
        rows.extend(_tree_rows(shown, tags) if trees else (_tag_row(shown, tag) for tag in tags))
    columns = [
        Column("REFERENCE" if style.with_repository else "TAG", [row.label for row in rows]),
        Column("DIGEST", [row.digest for row in rows], rank=1),
        Column("PUSHED" if pushed else "CREATED", [row.date for row in rows]),
        Column("AGE", [row.age for row in rows], right=True, rank=4),
        Column(
            "PLATFORMS",
            [" ".join(row.platforms) for row in rows],
            short=[_first_of(row.platforms) for row in rows],
            rank=2,
        ),
        Column("SIZE", [row.size for row in rows], right=True),
        Column("REFERRERS", [row.referrers for row in rows], right=True, rank=3),
    ]
    return fit(columns, style.width)


def totals_line(repositories: Sequence[ListedRepository], *, details: bool) -> str:
    """Return how much there is of all that is shown."""
    found = totals(repositories)
    parts = [_number(found.repositories, "repository", "repositories")] if len(repositories) != 1 else []
    parts.append(_number(found.tags, "tag"))
    if not details:
        return ", ".join(parts)
    parts.append(_number(found.manifests, "distinct manifest"))
    line = f"{', '.join(parts)}; {size_text(found.named_bytes)} named by tags, "
    line += f"{size_text(found.distinct_bytes)} distinct"
    return line + (f" (at least: the size of {found.unknown} is not known)" if found.unknown else "")


def _tag_row(shown: _Shown, tag: ListedTag, label: str | None = None) -> _Row:
    repository, style = shown.repository, shown.style
    text = tag_text(tag.name, whole=style.whole or style.width is None)
    name = f"{repository.name}:{text}" if style.with_repository else text
    if tag.digest is None:
        why = "names nothing" if tag.dangling else "not read"
        return _Row(label or name, f"({why})", "", "", (), "", "")
    date = repository.date(tag)
    return _Row(
        label or name,
        digest_text(tag.digest, whole=style.whole),
        date_text(date, style.now, whole=style.whole),
        age_text(date, style.now),
        repository.platforms(tag.digest),
        size_text(repository.size(tag.digest)),
        str(shown.trees.referrer_count(tag.digest) or ""),
    )


def _tree_rows(shown: _Shown, tags: Sequence[ListedTag]) -> Iterator[_Row]:
    repository, style = shown.repository, shown.style
    by_name = {tag.name: tag for tag in tags}
    prefix = f"{repository.name}:" if style.with_repository else ""
    for node in shown.trees.of_tags(tags):
        texts = [tag_text(tag, whole=style.whole or style.width is None) for tag in node.tags]
        yield _tag_row(shown, by_name[node.tags[0]], prefix + ", ".join(texts))
        yield from _rows_below(shown, node, "")
    for tag in tags:
        if tag.digest is None:
            yield _tag_row(shown, tag)


def _rows_below(shown: _Shown, node: Node, indent: str) -> Iterator[_Row]:
    fork, end, line = "├─ ", "└─ ", "│  "
    for number, each in enumerate(node.below, 1):
        last = number == len(node.below)
        yield _node_row(shown, each, indent + (end if last else fork))
        yield from _rows_below(shown, each, indent + ("   " if last else line))


def _node_row(shown: _Shown, node: Node, indent: str) -> _Row:
    repository, style = shown.repository, shown.style
    manifest = repository.manifests.get(node.digest)
    platforms = repository.platforms(node.digest)
    if node.relation is Relation.REFERS:
        tags = [tag_text(tag, whole=style.whole or style.width is None) for tag in node.tags]
        label = " ".join([kind_text(manifest, node.tags), *tags])
        platforms = ()
    elif node.child is not None and not node.child.image:
        label, platforms = "attestation", ()
    else:
        named = node.child.platform if node.child is not None else None
        label = named or " ".join(platforms) or "(no platform)"
    if manifest is None:
        why = "missing" if node.digest in repository.missing else "not read"
        return _Row(indent + label, digest_text(node.digest, whole=style.whole), f"({why})", "", (), "", "")
    date = repository.created(node.digest)
    return _Row(
        indent + label,
        digest_text(node.digest, whole=style.whole),
        date_text(date, style.now, whole=style.whole),
        age_text(date, style.now),
        () if label in platforms else platforms,
        size_text(repository.size(node.digest)),
        str(shown.trees.referrer_count(node.digest) or ""),
    )


def _first_of(platforms: Sequence[str]) -> str:
    return " ".join(platforms) if len(platforms) < 2 else f"{platforms[0]} +{len(platforms) - 1}"


def _repository_size(repository: ListedRepository) -> str:
    distinct = repository.distinct
    unread = distinct.unknown or any(tag.digest is None and not tag.dangling for tag in repository.tags)
    if not unread:
        return size_text(distinct.size)
    return f"> {size_text(distinct.size)}" if distinct.size else UNKNOWN


def _number(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
