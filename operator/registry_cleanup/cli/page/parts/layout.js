/* Where each tag of a repository stands: time runs from left to right, the newest at the right end. Above the line
   stands what stays, below it what goes. Tags of about the same time are stacked, the marks shrinking as need be;
   tags without a known date have a part of their own, at the left. */

const MARK_SIZES = [14, 12, 10, 8, 7, 6];
const STACK = 70;
const SMALLEST_MARK = 5;
const BAR = 8;
const BAND_GAP = 18;
const EDGE = 2;

// The same for all repositories, so that they can be compared with the eye.
let anyUndated = false;
let anyDated = false;
let oldestAge = DAY;

function measureTime() {
  anyUndated = everyTag.some((tag) => tag.placed === null);
  anyDated = everyTag.some((tag) => tag.placed !== null);
  oldestAge = everyTag.reduce((oldest, tag) => Math.max(oldest, ageOf(tag)), DAY);
}

function ageOf(tag) {
  return tag.placed === null ? 0 : Math.max(0, data.generatedAt - tag.placed);
}

/** Where an age stands between the oldest, 0, and now, 1. The root gives recent time more room than old time. */
function position(age) {
  const share = Math.min(1, age / oldestAge);
  return 1 - (shown.scale === "even" ? share : Math.sqrt(share));
}

/** The parts of a timeline of this width: for tags without a date, and for those with one. */
function bandsOf(width) {
  const whole = { left: EDGE, width: width - 2 * EDGE };
  if (!anyUndated) return { dated: whole, undated: null };
  if (!anyDated) return { dated: null, undated: whole };
  const narrow = Math.round(Math.min(180, Math.max(72, whole.width * 0.16)));
  return {
    undated: { left: EDGE, width: narrow },
    dated: { left: EDGE + narrow + BAND_GAP, width: whole.width - narrow - BAND_GAP },
  };
}

/** Put each tag into a column; columns are keyed by where they begin. */
function columnsOf(tags, bands, size) {
  const columns = new Map();
  const put = (left, tag) => {
    let column = columns.get(left);
    if (column === undefined) columns.set(left, (column = { left, above: [], below: [] }));
    (tag.standing === "going" ? column.below : column.above).push(tag);
  };
  const undated = [];
  const room = bands.dated && Math.max(1, Math.floor(bands.dated.width / size));
  const last = bands.dated && bands.dated.left + bands.dated.width - size;
  for (const tag of tags) {
    if (tag.placed === null) undated.push(tag);
    else put(last - (room - 1 - Math.min(room - 1, Math.floor(position(ageOf(tag)) * room))) * size, tag);
  }
  if (undated.length) {
    const across = Math.min(undated.length, Math.max(1, Math.floor(bands.undated.width / size)));
    undated.forEach((tag, index) => put(bands.undated.left + Math.floor((index * across) / undated.length) * size, tag));
  }
  return [...columns.values()].sort((one, other) => one.left - other.left);
}

// What comes next to the line, and what further out.
const NEARNESS = { protected: 0, kept: 1, going: 0, waiting: 1, failed: 2 };

function kindOf(tag) {
  return tag.fate ?? tag.standing;
}

function nearestFirst(one, other) {
  return NEARNESS[kindOf(one)] - NEARNESS[kindOf(other)];
}

/** How much of a stack a tag takes: the same for all, or as much as its image is large. */
function weight(tag) {
  return shown.height === "size" ? (tag.size ?? 0) : 1;
}

function heaviest(columns, side) {
  return columns.reduce((most, column) => Math.max(most, column[side].reduce((sum, tag) => sum + weight(tag), 0)), 0);
}

/** The columns with the largest marks that fit, and how high a mark of the weight 1 is. */
function fit(tags, bands) {
  let columns, size, above, below;
  for (size of shown.height === "size" ? [BAR] : MARK_SIZES) {
    columns = columnsOf(tags, bands, size);
    [above, below] = [heaviest(columns, "above"), heaviest(columns, "below")];
    if (Math.max(above, below) * size <= STACK) break;
  }
  const step = Math.min(shown.height === "size" ? Infinity : size, STACK / (Math.max(above, below) || 1));
  return { columns, size, step, above: above * step, below: below * step };
}

function heightOf({ above, below }) {
  const line = Math.round(Math.max(above, 10)) + 4;
  return { line, height: line + Math.round(Math.max(below, 10)) + 4 };
}

/** Turn a stack of tags into marks, from the line outwards. */
function pile(stack, column, { size, step }, line, direction) {
  let from = line + direction * 2;
  return stack.sort(nearestFirst).map((tag) => {
    const extent = weight(tag) * step;
    const mark = { tag, column, x: column.left + size / 2, y: from + (direction * extent) / 2, extent };
    from += direction * extent;
    return mark;
  });
}

/** Lay out the tags of one repository that are shown: marks in the order in which the keyboard goes through them. */
function arrange(tags, width) {
  const bands = bandsOf(width);
  const fitted = fit(tags, bands);
  const { line, height } = heightOf(fitted);
  const marks = [];
  for (const column of fitted.columns) {
    column.above = pile(column.above, column, fitted, line, -1);
    column.below = pile(column.below, column, fitted, line, 1);
    column.first = marks.length;
    marks.push(...column.above.slice().reverse(), ...column.below);
  }
  const bars = shown.height === "size" || fitted.step < SMALLEST_MARK;
  return { ...fitted, bands, marks, line, height, width, bars };
}

/** The number of the mark nearest to a point, or -1 where none is within `reach`. */
function nearestMark(arranged, x, y, reach) {
  let [nearest, least] = [-1, reach * reach];
  for (const column of arranged.columns) {
    const aside = column.left + arranged.size / 2 - x;
    if (Math.abs(aside) > reach + arranged.size) continue;
    const end = column.first + column.above.length + column.below.length;
    for (let number = column.first; number < end; number += 1) {
      const away = aside * aside + (arranged.marks[number].y - y) ** 2;
      if (away < least) [nearest, least] = [number, away];
    }
  }
  return nearest;
}

const TICKS = [
  [0, "now"],
  [DAY, "1 day"],
  [7 * DAY, "1 week"],
  [30 * DAY, "30 days"],
  [90 * DAY, "90 days"],
  [182 * DAY, "6 months"],
  [365 * DAY, "1 year"],
  [730 * DAY, "2 years"],
  [1461 * DAY, "4 years"],
  [2922 * DAY, "8 years"],
];

function undatedWord(bands) {
  return bands.undated.width < 100 ? "no date" : "no date known";
}

/** Ticks that fit, as far apart as their words need: the ends first, since they say how far it goes. */
function ticksOf(bands) {
  if (bands.dated === null) return [];
  const at = (age) => bands.dated.left + position(age) * bands.dated.width;
  const chosen = [];
  for (const [age, word] of TICKS.filter(([age]) => age <= oldestAge)) {
    const x = at(age);
    if (bands.undated !== null && x < bands.undated.left + undatedWord(bands).length * 6 + 36) continue;
    if (chosen.length === 0 || chosen[chosen.length - 1].x - x >= 58) chosen.push({ x, word, age });
  }
  return chosen;
}
