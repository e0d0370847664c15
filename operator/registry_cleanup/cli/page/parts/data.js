/* The report, unpacked from the columns that contents.py wrote into objects for each repository and tag. */

// Dates before this one, and those that lie ahead, cannot be true: the planner does not believe them either.
const FIRST_DATE = Date.UTC(2013, 2, 20) / 1000;
const AHEAD = 300;
const GONE = new Set(["Pruned", "AlreadyGone"]);

let data = null;
let repositories = []; // by name
let everyTag = [];

/** Of a tag that is to go: `going`, be it gone already; `waiting` for a later run; `failed`, tried and still there. */
function fateOf(standing, state) {
  if (standing !== "going") return null;
  if (state === null) return data.tried ? "waiting" : "going";
  if (state in data.outcomes) return GONE.has(state) ? "going" : "failed";
  return "waiting";
}

function believable(date) {
  return date !== null && date >= FIRST_DATE && date <= data.generatedAt + AHEAD;
}

function unpackTag(repository, columns, index) {
  const [standing, reasons, rule, setting, pushed] = data.verdicts[columns.verdicts[index]];
  const [state, code] = columns.states[index] ?? [null, null];
  const used = columns.users[index];
  const digest = columns.digests[index];
  const tag = {
    repository,
    index,
    name: columns.tags[index],
    standing,
    reasons,
    rule,
    setting,
    pushed,
    date: columns.dates[index],
    placed: believable(columns.dates[index]) ? columns.dates[index] : null,
    sameAs: null,
    size: columns.sizes[index],
    digest: typeof digest === "number" ? columns.digests[digest] : digest,
    twinOf: typeof digest === "number" ? digest : null,
    users: used ? used.slice(0, -1).map((number) => data.users[number]) : [],
    more: used ? used[used.length - 1] : 0,
    state,
    code,
    fate: fateOf(standing, state),
  };
  tag.text = [tag.name, repository.name, tag.digest, rule, ...reasons, state, ...tag.users].filter(Boolean).join("\n").toLowerCase();
  return tag;
}

/** Place tags whose own date nobody had to read where another tag of the same image stands. */
function borrowDates(tags) {
  const dated = new Map();
  for (const tag of tags) {
    const image = tag.twinOf ?? tag.index;
    if (tag.placed !== null && !tag.pushed && !dated.has(image)) dated.set(image, tag);
  }
  for (const tag of tags) {
    const twin = dated.get(tag.twinOf ?? tag.index);
    if (tag.date === null && twin !== undefined) {
      tag.placed = twin.placed;
      tag.sameAs = twin.name;
    }
  }
}

function unpackRepository(columns) {
  const [untagged, outcomes] = columns.untagged;
  const repository = {
    name: columns.name,
    tags: [],
    matches: [],
    incomplete: columns.incomplete,
    cut: columns.cut,
    untagged: untagged.length,
    untaggedGone: outcomes.filter((outcome) => GONE.has(outcome)).length,
    untaggedTried: outcomes.length,
  };
  repository.tags = columns.tags.map((_, index) => unpackTag(repository, columns, index));
  repository.matches = repository.tags;
  borrowDates(repository.tags);
  return repository;
}

function countStandings(tags) {
  const counts = { going: 0, protected: 0, kept: 0 };
  for (const tag of tags) counts[tag.standing] += 1;
  return counts;
}

function unpack() {
  const collator = new Intl.Collator("en", { numeric: true });
  repositories = data.repositories.map(unpackRepository).sort((one, other) => collator.compare(one.name, other.name));
  repositories.forEach((repository, number) => (repository.number = number));
  everyTag = repositories.flatMap((repository) => repository.tags);
}
