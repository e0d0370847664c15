/* The card about one tag: beside the pointer or the mark, or at the foot of a narrow screen. */

const card = document.getElementById("card");
let closeCard = () => {};

function row(term, ...values) {
  const kept = values.filter((value) => value !== "" && value !== null);
  return kept.length ? [element("dt", {}, term), element("dd", {}, ...kept)] : [];
}

function dateWords(tag) {
  if (tag.date !== null && tag.placed === null) return [`not known; it claims ${dayWord(tag.date)}`];
  if (tag.placed === null) return [tag.reasons.includes("UnknownDate") ? "not known" : "no rule needed to know"];
  const age = `${ageWord(data.generatedAt - tag.placed)} old`;
  const source = tag.sameAs !== null ? "the same image as " : tag.pushed ? "pushed" : "created";
  const twin = tag.sameAs !== null ? [element("bdi", {}, tag.sameAs)] : [];
  return [timeWord(tag.placed), element("span", { className: "aside" }, ` ${age}, ${source}`, ...twin)];
}

function usersList(tag) {
  const users = tag.users.map((user) => element("li", {}, user));
  if (tag.more) users.push(element("li", {}, `and ${tag.more} more`));
  return users.length ? element("ul", {}, ...users) : "";
}

function cardContent(tag) {
  const state = stateWord(tag);
  const why = whyWord(tag);
  return [
    element("p", { className: `verdict ${tag.standing}` }, markPicture(tag.standing), standingWord(tag)),
    element("p", { className: "tag", dir: "auto" }, tag.name),
    element("p", { className: "in", dir: "auto" }, tag.repository.name),
    element("p", { className: "why" }, `${why.charAt(0).toUpperCase()}${why.slice(1)}.`),
    element(
      "dl",
      {},
      ...row(data.tried ? "Outcome" : "When", state),
      ...row("Rule", tag.rule === null ? "" : element("bdi", {}, tag.rule)),
      ...row("Date", ...dateWords(tag)),
      ...row("Size", sizeWord(tag.size)),
      ...row("Used by", usersList(tag)),
      ...row("Digest", tag.digest === null ? "" : element("code", {}, `${tag.digest}…`)),
    ),
  ];
}

function cardButton(word, label, action) {
  const button = element("button", { type: "button", "aria-label": label }, word);
  button.addEventListener("click", action);
  return button;
}

/** Show the card about a tag at a place of the window; `turn` goes to the next or the previous tag. */
function showCard(tag, place, { pinned, turn, closed }) {
  // The button that was pressed is made anew: it keeps the focus.
  const pressed = card.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  const buttons = element("div", { className: "turn" });
  if (turn) buttons.append(cardButton("‹", "Previous tag", () => turn(-1)), cardButton("›", "Next tag", () => turn(1)));
  buttons.append(cardButton("×", "Close", () => hideCard()));
  closeCard = closed;
  card.replaceChildren(...cardContent(tag), ...(pinned ? [buttons] : []));
  card.classList.toggle("pinned", pinned);
  card.hidden = false;
  placeCard(place);
  if (pressed !== null) card.querySelector(`[aria-label="${pressed}"]`)?.focus();
}

/** Put the card below what it is about, else above, so that it does not cover it; at the foot of a narrow window. */
function placeCard({ x, top, bottom }) {
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  card.classList.toggle("foot", narrow);
  const { width, height } = card.getBoundingClientRect();
  const [room, tall] = [document.documentElement.clientWidth, window.innerHeight];
  if (narrow) {
    card.style.left = card.style.top = "";
    const hiddenBy = bottom - (tall - height - 12);
    if (hiddenBy > 0) window.scrollBy(0, hiddenBy);
    return;
  }
  const above = bottom + 8 + height > tall && top - 8 - height > 0;
  card.style.left = `${Math.max(8, Math.min(x - 48, room - width - 8))}px`;
  card.style.top = `${Math.max(8, Math.min(above ? top - 8 - height : bottom + 8, tall - height - 8))}px`;
}

/** Close the card, and say whether it was open; who opened it hears whether the focus was in it. */
function hideCard() {
  if (card.hidden) return false;
  const focused = card.contains(document.activeElement);
  const tell = closeCard;
  closeCard = () => {};
  card.hidden = true;
  tell(focused);
  return true;
}
