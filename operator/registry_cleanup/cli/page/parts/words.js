/* How the page says numbers, sizes, dates and verdicts, and how it makes elements. Whatever comes from the registry or
   the cluster becomes text of a text node, and never markup. */

const DAY = 86400;
const plainNumber = new Intl.NumberFormat("en");

/** Make an element; properties are set as such, those with a dash or `role` as attributes. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** One of the marks of the legend, as a small picture. */
function markPicture(standing) {
  return document.querySelector(`.total.${standing} svg`).cloneNode(true);
}

function countWord(number, one, many = one + "s") {
  return `${plainNumber.format(number)} ${number === 1 ? one : many}`;
}

function sizeWord(bytes) {
  if (bytes === null) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes.toFixed(unit === 0 || bytes >= 100 ? 0 : 1)} ${units[unit]}`;
}

function dayWord(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

function timeWord(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function ageWord(seconds) {
  const days = seconds / DAY;
  if (days < 1) return countWord(Math.max(0, Math.floor(seconds / 3600)), "hour");
  if (days < 60) return countWord(Math.floor(days), "day");
  if (days < 730) return countWord(Math.round(days / 30.44), "month");
  return `${(days / 365.25).toFixed(1)} years`;
}

function reasonWord(reason) {
  return data.reasons[reason] ?? reason;
}

/** Why a tag stays or goes, in one sentence without its end. */
function whyWord(tag) {
  const why = tag.reasons.map(reasonWord).join(", and ");
  if (tag.setting !== null) return `the operator's setting ${tag.setting} keeps it`;
  return why;
}

/** What became of a tag that was to go, or why it waits; empty where there is nothing to say. */
function stateWord(tag) {
  if (tag.state === null) return data.tried && tag.standing === "going" ? "not tried" : "";
  const word = data.outcomes[tag.state] ?? reasonWord(tag.state);
  if (tag.state === "GracePeriod" && data.prunableFrom !== null) return `${word}: from ${timeWord(data.prunableFrom)}`;
  return tag.code === null ? word : `${word} (${tag.code})`;
}

/** What to call the standing of one tag: of a run that pruned, what really became of it. */
function standingWord(tag) {
  if (tag.fate === "failed") return "still there";
  if (tag.fate === "waiting") return "going, not yet";
  return tag.standing === "going" && data.tried ? "gone" : tag.standing;
}

function usersWord(tag) {
  return tag.users.join(", ") + (tag.more ? ` and ${tag.more} more` : "");
}

/** A tag in one sentence, for those who hear the page. */
function sentence(tag) {
  const parts = [`${tag.name}: ${standingWord(tag)}`, whyWord(tag), stateWord(tag)];
  if (tag.placed !== null) parts.push(`${ageWord(data.generatedAt - tag.placed)} old`);
  else parts.push("no date known");
  if (tag.size !== null) parts.push(sizeWord(tag.size));
  if (tag.users.length) parts.push(`used by ${usersWord(tag)}`);
  return parts.filter(Boolean).join("; ");
}
