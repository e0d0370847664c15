/* The same tags as a table, for those who read rather than look: rows exist only while they are near the window. */

const table = document.getElementById("table");
const heads = document.getElementById("columns");
const ROWS_BEYOND = 12;
const PRINTED_ROWS = 3000;
const tableState = { tags: [], column: "repository", descending: false, rows: new Map(), height: 0 };

const columnsOfTable = {
  repository: ["Repository", (tag) => tag.repository.name],
  tag: ["Tag", (tag) => tag.name],
  standing: ["Verdict", (tag) => standingWord(tag)],
  why: ["Why", (tag) => [whyWord(tag), stateWord(tag)].filter(Boolean).join("; ")],
  date: ["Date", (tag) => (tag.placed === null ? "not known" : dayWord(tag.placed))],
  size: ["Size", (tag) => sizeWord(tag.size)],
  users: ["Used by", usersWord],
};

const sortKeys = {
  date: (tag) => tag.placed ?? -Infinity,
  size: (tag) => tag.size ?? -1,
};

function sortTags(tags) {
  const { column, descending } = tableState;
  const key = sortKeys[column] ?? columnsOfTable[column][1];
  const compare = column in sortKeys ? (one, other) => one - other : new Intl.Collator("en", { numeric: true }).compare;
  const direction = descending ? -1 : 1;
  const keyed = tags.map((tag, number) => [key(tag), number, tag]);
  keyed.sort((one, other) => direction * compare(one[0], other[0]) || one[1] - other[1]);
  return keyed.map(([, , tag]) => tag);
}

function tableHead() {
  const cells = Object.entries(columnsOfTable).map(([column, [word]]) => {
    const sorted = tableState.column === column ? (tableState.descending ? "descending" : "ascending") : "none";
    const button = element("button", { type: "button" }, word);
    button.addEventListener("click", () => {
      tableState.descending = tableState.column === column && !tableState.descending;
      tableState.column = column;
      listTable();
      heads.querySelector(`[data-column="${column}"] button`).focus();
    });
    return element("div", { role: "columnheader", className: `c-${column}`, "aria-sort": sorted, "data-column": column }, button);
  });
  heads.replaceChildren(element("div", { className: "row head", role: "row" }, ...cells));
}

function tableRow(tag, number) {
  const cells = Object.entries(columnsOfTable).map(([column, [, word]]) => {
    const text = word(tag);
    const cell = element("div", { role: "cell", className: `c-${column}`, dir: "auto" });
    if (column === "standing") cell.append(markPicture(tag.standing), text);
    else if (column === "tag") cell.append(rowButton(tag, text));
    else cell.append(text);
    return cell;
  });
  const made = element("div", { className: `row ${tag.standing}`, role: "row", "aria-rowindex": number + 2 }, ...cells);
  made.style.transform = `translateY(${number * tableState.height}px)`;
  return made;
}

function rowButton(tag, text) {
  const button = element("button", { type: "button" }, element("bdi", {}, text));
  button.addEventListener("click", () => {
    const box = button.getBoundingClientRect();
    showCard(tag, { x: box.left + 48, top: box.top, bottom: box.bottom }, { pinned: true, closed: (focused) => focused && button.focus({ preventScroll: true }) });
  });
  return button;
}

function rowHeight() {
  return window.matchMedia("(max-width: 60rem)").matches ? 84 : 36;
}

/** Make the rows that come near the window, and drop those that leave it. */
function fillTable() {
  if (shown.view !== "table" || printing) return;
  const { rows, tags, height } = tableState;
  const top = -table.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / height) - ROWS_BEYOND);
  const last = Math.min(tags.length, Math.ceil((top + window.innerHeight) / height) + ROWS_BEYOND);
  for (const [number, made] of rows) {
    if (number >= first && number < last) continue;
    made.remove();
    rows.delete(number);
  }
  for (let number = first; number < last; number += 1) {
    if (rows.has(number)) continue;
    const made = tableRow(tags[number], number);
    // In the order of their numbers also for those who hear them.
    const next = rows.get(number + 1);
    if (next) table.insertBefore(made, next);
    else if (number === first) table.prepend(made);
    else rows.get(number - 1).after(made);
    rows.set(number, made);
  }
}

function listTable() {
  hideCard();
  tableHead();
  const tags = sortTags(shown.repositories.flatMap((repository) => repository.matches));
  Object.assign(tableState, { tags, rows: new Map(), height: rowHeight() });
  table.replaceChildren();
  table.style.height = `${tags.length * tableState.height}px`;
  table.setAttribute("aria-rowcount", tags.length + 1);
  fillTable();
}

/** Write out the whole table, as far as paper is for it. */
function printTable() {
  table.style.height = "";
  table.replaceChildren(...tableState.tags.slice(0, PRINTED_ROWS).map(tableRow));
  tableState.rows.clear();
  if (tableState.tags.length > PRINTED_ROWS) table.append(element("p", {}, `and ${countWord(tableState.tags.length - PRINTED_ROWS, "more tag")}`));
}
