/* The list of repositories, each with its timeline; drawn while it is near the window, and no longer. */

const list = document.getElementById("timelines");
const sections = new Map(); // of a repository: what is on the page of it
const bySection = new WeakMap();
const ruler = document.getElementById("ruler"); // as wide as the timelines below it
// Words of `standingWord`, each with the mark before it.
const COUNTED = [
  ["going", "going"],
  ["gone", "going"],
  ["still there", "going"],
  ["going, not yet", "going"],
  ["protected", "protected"],
  ["kept", "kept"],
];
let chosen = null; // { repository, number, mark } that the card is about

const nearby = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const repository = bySection.get(entry.target);
      if (entry.isIntersecting) fillSection(repository);
      else emptySection(repository);
    }
  },
  { rootMargin: "500px 0px" },
);

/** How many tags are what, in words and marks; of a run that pruned, what went and what did not. */
function figures(repository) {
  const counts = new Map();
  for (const tag of repository.matches) {
    const word = data.tried ? standingWord(tag) : tag.standing;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const parts = COUNTED.filter(([word]) => counts.has(word)).map(([word, standing]) =>
    element("span", { className: standing }, markPicture(standing), `${plainNumber.format(counts.get(word))} ${word}`),
  );
  if (repository.matches.length < repository.tags.length) parts.push(element("span", {}, `of ${countWord(repository.tags.length, "tag")}`));
  return element("p", { className: "figures" }, ...parts);
}

function remarks(repository) {
  const found = [];
  if (repository.incomplete !== null) {
    const [reason, tags] = repository.incomplete;
    found.push(element("p", { className: "remark incomplete" }, element("strong", {}, "Not read whole"), ` (${reason}): ${countWord(tags, "tag")} listed, and everything stays.`));
  }
  if (repository.cut) found.push(element("p", { className: "remark" }, `${countWord(repository.cut, "line")} did not fit into the report.`));
  if (repository.untagged) {
    const what = countWord(repository.untagged, "manifest");
    const end = repository.untaggedTried ? `: ${plainNumber.format(repository.untaggedGone)} pruned` : "";
    found.push(element("p", { className: "remark" }, `${what} left without a tag${end}.`));
  }
  return found;
}

/** The name with the part after the last slash set off, and places where a long one may break. */
function nameParts(name) {
  const cut = name.lastIndexOf("/") + 1;
  return [element("span", { className: "path" }, name.slice(0, cut)), element("span", {}, name.slice(cut))];
}

function makeSection(repository) {
  const name = element("h3", { dir: "auto", title: repository.name.length > 60 ? repository.name : "" }, ...nameParts(repository.name));
  const words = element("div", { className: "words" }, name);
  const node = element("section", { className: repository.matches.length ? "repository" : "repository bare" }, words);
  bySection.set(node, repository);
  const section = { node, words, plot: null, canvas: null, option: null, arranged: null, filled: false };
  sections.set(repository, section);
  return section;
}

function fillSection(repository) {
  const section = sections.get(repository);
  if (section.filled) return;
  section.filled = true;
  section.words.append(figures(repository), ...remarks(repository));
  if (repository.matches.length) {
    section.canvas = element("canvas", { "aria-hidden": "true" });
    section.option = element("div", { className: "hidden", role: "option", id: `tag-${repository.number}`, "aria-selected": "true" });
    section.plot = element("div", { className: "plot", tabIndex: 0, role: "listbox", "aria-label": `Tags of ${repository.name} in the order of time`, "aria-orientation": "horizontal" }, section.canvas, section.option);
    section.node.append(section.plot);
    listen(repository, section);
    drawSection(repository);
  }
  section.node.style.minHeight = "";
}

function emptySection(repository) {
  const section = sections.get(repository);
  // What has the focus, or the card, must not vanish below it; and paper shows all.
  if (printing || !section.filled || section.plot?.contains(document.activeElement) || chosen?.repository === repository) return;
  section.node.style.minHeight = `${section.node.offsetHeight}px`;
  section.plot?.remove();
  section.words.replaceChildren(section.words.firstChild);
  Object.assign(section, { plot: null, canvas: null, option: null, arranged: null, filled: false });
}

function drawSection(repository) {
  const section = sections.get(repository);
  section.arranged = arrange(repository.matches, Math.max(120, section.plot.clientWidth));
  redraw(repository);
}

function redraw(repository) {
  const section = sections.get(repository);
  if (section?.arranged) drawTimeline(section.canvas, section.arranged, chosen?.repository === repository ? chosen.number : -1);
}

/** About how high a repository will be, so that the end of the page is where the scrollbar says. */
function expectedHeight(repository, bands, narrow) {
  const plot = repository.matches.length ? heightOf(fit(repository.matches, bands)).height : 0;
  return 25 + (narrow ? 48 + plot : Math.max(46, plot));
}

/** Show all repositories that are left by the filter, in its order. */
function listTimelines() {
  forget();
  nearby.disconnect();
  sections.clear();
  const made = shown.repositories.map(makeSection);
  const bands = bandsOf(ruler.clientWidth);
  const narrow = window.matchMedia("(max-width: 60rem)").matches;
  for (const { node } of made) node.style.minHeight = `${expectedHeight(bySection.get(node), bands, narrow)}px`;
  list.replaceChildren(...made.map((section) => section.node));
  for (const section of made) nearby.observe(section.node);
  drawRuler();
}

/** Draw again what is on the page: the width, the theme or the scale is another one. */
function redrawTimelines() {
  forget();
  for (const [repository, section] of sections) if (section.plot) drawSection(repository);
  drawRuler();
}

function drawRuler() {
  const width = ruler.clientWidth; // in shares of which they stand, since paper has another width
  const bands = bandsOf(width);
  const ticks = ticksOf(bands).map((tick) => {
    const made = element("span", { title: dayWord(data.generatedAt - tick.age) }, tick.word);
    made.style.left = `${(100 * tick.x) / width}%`;
    made.classList.toggle("now", tick.age === 0);
    return made;
  });
  if (bands.undated !== null) {
    const made = element("span", { className: "undated" }, undatedWord(bands));
    made.style.left = `${(100 * bands.undated.left) / width}%`;
    ticks.push(made);
  }
  ruler.replaceChildren(...ticks);
}

/** Make a tag the one that the card is about. */
function choose(repository, number, pinned) {
  const before = chosen;
  const section = sections.get(repository);
  const mark = section.arranged.marks[number];
  chosen = { repository, number, pinned };
  if (before && before.repository !== repository) redraw(before.repository);
  redraw(repository);
  section.option.textContent = sentence(mark.tag);
  section.option.setAttribute("aria-setsize", section.arranged.marks.length);
  section.option.setAttribute("aria-posinset", number + 1);
  section.plot.setAttribute("aria-activedescendant", section.option.id);
  const box = section.canvas.getBoundingClientRect();
  showCard(mark.tag, { x: box.left + mark.x, top: box.top, bottom: box.bottom }, {
    pinned,
    turn: (step) => step && move(repository, chosen.number + step),
    closed: (focused) => {
      forget();
      if (focused) section.plot?.focus();
    },
  });
}

function forget() {
  if (chosen === null) return;
  const { repository } = chosen;
  chosen = null;
  hideCard();
  sections.get(repository)?.plot?.removeAttribute("aria-activedescendant");
  redraw(repository);
}

function move(repository, number) {
  const last = sections.get(repository).arranged.marks.length - 1;
  choose(repository, Math.max(0, Math.min(last, number)), true);
}

/** The first mark of the next column or the one before, for a key that jumps. */
function jump(arranged, number, direction) {
  const columns = arranged.columns;
  const next = columns.indexOf(arranged.marks[number].column) + direction;
  return columns[Math.max(0, Math.min(columns.length - 1, next))].first;
}

/** Where a key leads from a mark; undefined for other keys. */
function led(key, arranged, number) {
  const last = arranged.marks.length - 1;
  if (number === -1) return ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "End", "Enter", " "].includes(key) ? last : key === "Home" ? 0 : undefined;
  const { column } = arranged.marks[number];
  const inColumn = (other) => (arranged.marks[other]?.column === column ? other : number);
  return {
    ArrowRight: number + 1,
    ArrowLeft: number - 1,
    ArrowDown: inColumn(number + 1),
    ArrowUp: inColumn(number - 1),
    PageDown: jump(arranged, number, 1),
    PageUp: jump(arranged, number, -1),
    Home: 0,
    End: last,
  }[key];
}

function listen(repository, section) {
  const { plot, canvas } = section;
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const reach = event.pointerType === "mouse" ? 12 : 28;
    return nearestMark(section.arranged, event.clientX - box.left, event.clientY - box.top, reach);
  };
  plot.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || chosen?.pinned) return;
    const number = under(event);
    if (number === -1) forget();
    else if (chosen?.repository !== repository || chosen.number !== number) choose(repository, number, false);
  });
  plot.addEventListener("pointerleave", () => {
    if (chosen && !chosen.pinned) forget();
  });
  plot.addEventListener("click", (event) => {
    const number = under(event);
    if (number === -1) forget();
    else choose(repository, number, true);
  });
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const number = chosen?.repository === repository ? chosen.number : -1;
    const next = led(event.key, section.arranged, number);
    if (next === undefined) return;
    event.preventDefault();
    move(repository, next);
  });
  plot.addEventListener("blur", (event) => {
    if (!card.contains(event.relatedTarget) && chosen?.repository === repository) forget();
  });
}
