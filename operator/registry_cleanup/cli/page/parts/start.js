/* What the controls do, and the beginning. */

const search = document.getElementById("search");
const MOST_PRINTED = 200;
let ready = false; // with the report unpacked

function showResult() {
  if (!ready) return;
  filterTags();
  const tags = shown.repositories.reduce((sum, repository) => sum + repository.matches.length, 0);
  document.getElementById("showing").textContent =
    tags === everyTag.length ? countWord(tags, "tag") : `${plainNumber.format(tags)} of ${countWord(everyTag.length, "tag")}`;
  document.getElementById("nothing").hidden = shown.repositories.length > 0;
  showView();
}

function showView() {
  if (!ready) return;
  document.body.dataset.view = shown.view;
  if (shown.view === "table") {
    forget();
    list.replaceChildren();
    listTable();
  } else {
    table.replaceChildren();
    listTimelines();
  }
}

/** Call `action` once before the next picture, however often it is asked for. */
function oncePerFrame(action) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      action();
    });
  };
}

const showSoon = oncePerFrame(showResult);

function searchFor(text) {
  shown.words = text.toLowerCase().split(/\s+/).filter(Boolean);
  // What is found begins at the top.
  const top = document.getElementById("repositories").getBoundingClientRect().top;
  if (top < 0) window.scrollBy(0, top);
  showSoon();
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", pressed);
}

function listenToChoices() {
  for (const button of document.querySelectorAll("[data-standing]")) {
    button.addEventListener("click", () => {
      const { standing } = button.dataset;
      if (!shown.standings.delete(standing)) shown.standings.add(standing);
      press(button, shown.standings.has(standing));
      showSoon();
    });
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => {
      shown.view = button.dataset.view;
      for (const other of document.querySelectorAll("[data-view]")) press(other, other === button);
      showView();
    });
  }
  for (const choice of ["reason", "order", "scale", "height"]) {
    const select = document.getElementById(choice);
    select.addEventListener("change", () => {
      shown[choice] = select.value;
      showSoon();
    });
  }
  document.getElementById("reset").addEventListener("click", () => {
    search.value = "";
    document.getElementById("reason").value = shown.reason = "";
    shown.standings = new Set(["going", "protected", "kept"]);
    for (const button of document.querySelectorAll("[data-standing]")) press(button, true);
    searchFor("");
    search.focus();
  });
}

function listenToKeys() {
  search.addEventListener("input", () => searchFor(search.value));
  document.addEventListener("keydown", (event) => {
    const writing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape") {
      if (hideCard()) return;
      if (event.target === search) {
        search.value = "";
        searchFor("");
        search.blur();
      }
    }
  });
}

function listenToWindow() {
  const again = oncePerFrame(() => {
    readColours();
    if (shown.view === "timelines") redrawTimelines();
    else listTable();
  });
  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => {
    // Phones call it a resize when their address bar hides.
    if (document.documentElement.clientWidth === width) fillTable();
    else again();
    width = document.documentElement.clientWidth;
  });
  window.addEventListener("scroll", oncePerFrame(fillTable), { passive: true });
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) window.matchMedia(query).addEventListener("change", again);
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
}

/** Paper shows everything, in the colours of paper. */
function print(begins) {
  printing = begins;
  readColours();
  if (shown.view === "table") {
    if (begins) printTable();
    else listTable();
    return;
  }
  if (!begins) {
    listTimelines();
    return;
  }
  shown.repositories.slice(0, MOST_PRINTED).forEach(fillSection);
  redrawTimelines();
}

function offerReasons() {
  const select = document.getElementById("reason");
  for (const [reason, number] of reasonsFound()) {
    select.append(element("option", { value: reason }, `${reason} (${plainNumber.format(number)})`));
  }
}

/** Let the browser show what there is, and answer, before the next piece of work. */
function breath() {
  return new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
}

async function start() {
  // At once, so that nothing jumps later, and no key is lost.
  document.documentElement.classList.add("scripted");
  listenToChoices();
  listenToKeys();
  await breath();
  data = JSON.parse(document.getElementById("data").textContent);
  await breath();
  unpack();
  measureTime();
  await breath();
  readColours();
  offerReasons();
  listenToWindow();
  ready = true;
  showResult();
  document.documentElement.classList.add("ready");
}

start();
