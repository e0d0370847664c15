/* Drawing a timeline. What a mark means shows by where it stands and by its shape, not by its colour alone. */

const colours = {};
const PRINT = { line: "#999", grid: "#ddd", kept: "#8a9199", protected: "#1d4fb8", going: "#c2410c", ground: "#fff", ink: "#000" };
let printing = false;

/** Read the colours of the theme, which the style sheet has. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of Object.keys(PRINT)) colours[name] = printing ? PRINT[name] : style.getPropertyValue(`--${name}`).trim();
}

function sizeCanvas(canvas, width, height) {
  const ratio = printing ? 2 : window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

const shapes = {
  kept(pen, x, y, radius) {
    pen.arc(x, y, radius * 0.92, 0, 2 * Math.PI);
  },
  protected(pen, x, y, radius) {
    pen.moveTo(x, y - radius * 1.15);
    pen.lineTo(x + radius * 1.15, y);
    pen.lineTo(x, y + radius * 1.15);
    pen.lineTo(x - radius * 1.15, y);
    pen.closePath();
  },
  going(pen, x, y, radius) {
    pen.moveTo(x - radius, y - radius * 0.85);
    pen.lineTo(x + radius, y - radius * 0.85);
    pen.lineTo(x, y + radius);
    pen.closePath();
  },
  failed(pen, x, y, radius) {
    pen.moveTo(x - radius * 0.8, y - radius * 0.8);
    pen.lineTo(x + radius * 0.8, y + radius * 0.8);
    pen.moveTo(x + radius * 0.8, y - radius * 0.8);
    pen.lineTo(x - radius * 0.8, y + radius * 0.8);
  },
};

function drawMark(pen, tag, x, y, radius) {
  pen.beginPath();
  shapes[tag.fate === "failed" ? "failed" : tag.standing](pen, x, y, radius);
  pen.fillStyle = pen.strokeStyle = colours[tag.standing];
  pen.lineWidth = tag.fate === "failed" ? 2 : 1.4;
  if (tag.fate === "failed") {
    pen.stroke();
  } else if (tag.fate === "waiting") {
    pen.fillStyle = colours.ground;
    pen.fill();
    pen.stroke();
  } else {
    pen.fill();
  }
}

/** Stripes, for what is protected or waits, where marks are too many for shapes. */
function hatch(pen, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const brush = tile.getContext("2d");
  brush.fillStyle = colours.ground;
  brush.fillRect(0, 0, 6, 6);
  brush.strokeStyle = colour;
  brush.lineWidth = 2.6;
  brush.beginPath();
  for (const start of [-6, 0, 6]) {
    brush.moveTo(start - 1, 7);
    brush.lineTo(start + 7, -1);
  }
  brush.stroke();
  return pen.createPattern(tile, "repeat");
}

/** Draw a column as bars: neighbours of one kind as one bar, unless each is to show how large it is. */
function drawBars(pen, arranged) {
  const hatched = { protected: hatch(pen, colours.protected), waiting: hatch(pen, colours.going), failed: hatch(pen, colours.ink) };
  for (const { above, below } of arranged.columns) {
    for (const stack of [above, below]) {
      for (let start = 0; start < stack.length; ) {
        const kind = kindOf(stack[start].tag);
        let [end, extent] = [start, 0];
        do {
          extent += stack[end].extent;
          end += 1;
        } while (end < stack.length && shown.height !== "size" && kindOf(stack[end].tag) === kind);
        const [first, last] = [stack[start], stack[end - 1]];
        const top = Math.min(first.y - first.extent / 2, last.y - last.extent / 2);
        pen.fillStyle = hatched[kind] ?? colours[kind];
        pen.fillRect(first.x - arranged.size / 2, top, arranged.size - 1, Math.max(1, extent - (extent > 3 && shown.height === "size" ? 1 : 0)));
        start = end;
      }
    }
  }
}

function drawGround(pen, arranged) {
  const { bands, line, height } = arranged;
  pen.fillStyle = colours.grid;
  for (const tick of ticksOf(bands)) pen.fillRect(Math.round(tick.x), 0, 1, height);
  pen.fillStyle = colours.line;
  if (bands.dated !== null) pen.fillRect(bands.dated.left, line - 0.5, bands.dated.width, 1);
  if (bands.undated !== null && arranged.columns[0]?.left < bands.undated.left + bands.undated.width) {
    pen.fillRect(bands.undated.left, line - 0.5, bands.undated.width, 1);
  }
}

/** Draw one timeline, with a ring around the mark `chosen`. */
function drawTimeline(canvas, arranged, chosen) {
  const pen = sizeCanvas(canvas, arranged.width, arranged.height);
  drawGround(pen, arranged);
  const radius = arranged.bars ? 3 : arranged.step / 2 - (arranged.step > 8 ? 1.2 : 0.6);
  if (arranged.bars) drawBars(pen, arranged);
  else for (const mark of arranged.marks) drawMark(pen, mark.tag, mark.x, mark.y, radius);
  const mark = arranged.marks[chosen];
  if (mark === undefined) return;
  const around = Math.max(radius, 3) + 3.5;
  pen.beginPath();
  pen.arc(mark.x, mark.y, around, 0, 2 * Math.PI);
  pen.lineWidth = 4;
  pen.strokeStyle = colours.ground;
  pen.stroke();
  pen.lineWidth = 2;
  pen.strokeStyle = colours.ink;
  pen.stroke();
  if (arranged.bars) drawMark(pen, mark.tag, mark.x, mark.y, 3);
}
