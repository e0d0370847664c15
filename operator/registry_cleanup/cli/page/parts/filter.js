/* Which tags are shown, and in which order their repositories come. */

const shown = {
  standings: new Set(["going", "protected", "kept"]),
  words: [],
  reason: "",
  order: "going",
  scale: "recent",
  height: "tags",
  view: "timelines",
  repositories: [],
};

function matches(tag) {
  return (
    shown.standings.has(tag.standing) &&
    (shown.reason === "" || tag.reasons.includes(shown.reason) || tag.state === shown.reason) &&
    shown.words.every((word) => tag.text.includes(word))
  );
}

/** A repository without tags, such as one that was not read whole, shows unless something is looked for. */
function bareMatches(repository) {
  return (
    repository.tags.length === 0 &&
    shown.reason === "" &&
    shown.words.every((word) => repository.name.toLowerCase().includes(word))
  );
}

function everythingShown() {
  return shown.standings.size === 3 && shown.reason === "" && shown.words.length === 0;
}

function filterTags() {
  for (const repository of repositories) {
    repository.matches = everythingShown() ? repository.tags : repository.tags.filter(matches);
  }
  shown.repositories = sortedOnce(repositories.filter((repository) => repository.matches.length || bareMatches(repository)));
}

/** Sort by a number that is worked out once for each repository. */
function sortedOnce(found) {
  if (shown.order === "name") return found;
  const number = (repository) =>
    shown.order === "tags" ? repository.matches.length : countStandings(repository.matches).going;
  return found
    .map((repository) => [number(repository), repository])
    .sort((one, other) => other[0] - one[0])
    .map(([, repository]) => repository);
}

/** The reasons and states that occur, by how often they do. */
function reasonsFound() {
  const counts = new Map();
  for (const tag of everyTag) {
    for (const reason of tag.state === null ? tag.reasons : [...tag.reasons, tag.state]) {
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
    }
  }
  return [...counts].sort((one, other) => other[1] - one[1]);
}
