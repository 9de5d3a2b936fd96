// Pictures. Python made them whole; what depends on width, theme, filter and switches is settled here.
const NARROW = 460;
const CROWD = 11; // lines whose ends have room for a label each
const LABEL = 15; // px between labels at the ends of lines
let pictures = null; // {figures: {id: {state: picture}}, matrices: {id: {state: {point: cells}}}, template}

const chosenIn = card => all('.switch button[aria-pressed="true"], .switch select', card).map(b => b.dataset.option || b.value);

function variant(box) {
  const chosen = chosenIn(box.closest(".card"));
  const found = pictures.figures[box.dataset.fig];
  return found[chosen.join("/")] || (chosen.length ? null : found[""]);
}

// A trace of one point is shown or not; one with a point an element keeps the elements that are shown.
function keepShown(trace) {
  const owner = trace.meta;
  if (typeof owner === "number") return { ...trace, visible: shown(owner) };
  if (!Array.isArray(owner)) return trace;
  const kept = owner.map((point, i) => i).filter(i => shown(owner[i]));
  const cut = value => {
    if (Array.isArray(value) && value.length === owner.length) return kept.map(i => value[i]);
    if (value && typeof value === "object" && !Array.isArray(value)) {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, cut(v)]));
    }
    return value;
  };
  return cut(trace);
}

// Rows that are shown, their names, and the room that names and totals need.
function rowsOf(picture, narrow) {
  const { layout, hints } = picture;
  const keys = layout.yaxis.categoryarray.filter(key => shown(parseInt(key.slice(1), 10)));
  const size = narrow ? 11.5 : 12.5;
  const names = keys.map(key => ({ lines: linesOf(hints.ticks[key][0], narrow ? 16 : 30), bold: hints.ticks[key][1] }));
  const ends = picture.data.filter(trace => trace.mode === "text");
  if (narrow) ends.forEach(trace => { trace.text = trace.text.map(text => text.split(", ")[0]); });
  layout.yaxis = {
    ...layout.yaxis, categoryarray: keys, tickvals: keys, ticktext: names.map(name => marked(name.lines, name.bold)),
    range: [keys.length - 0.5, -0.5], tickfont: { size },
  };
  layout.margin.l = 14 + Math.max(0, ...names.map(name => widest(name.lines, size, name.bold)));
  layout.margin.r = 12 + Math.max(0, ...ends.map(trace => widest(trace.text, 12.5)));
  const close = keys.length > 12 && !narrow && names.every(name => name.lines.length === 1);
  const row = close ? hints.row * 0.8 : hints.row;
  layout.height = layout.margin.t + layout.margin.b + Math.max(keys.length, 1) * row;
}

// Labels of upright rules one above the other, as they would run into one another.
function stagger(layout) {
  const labels = (layout.annotations || []).filter(label => label.yref === "paper");
  labels.forEach((label, i) => { label.yshift = 14 * i; });
  if (labels.some(label => label.y === 1)) layout.margin.t += 14 * (labels.length - 1);
  if (layout.yaxis.categoryarray) layout.height += 14 * Math.max(labels.length - 1, 0);
}

// Numbers in the cells of a map do not fit a phone: its marks do. Nor do the texts of what is called wide.
function marksAlone(traces) {
  traces.filter(trace => trace.name === "wide").forEach(trace => { trace.mode = "lines+markers"; });
  traces.filter(trace => trace.name === "cells").forEach(map => { map.text = map.text.map(text => text.replace(/[\d.,\s]/g, "")); });
}

function slim(picture) {
  const { layout, hints } = picture;
  const axis = layout.xaxis;
  if (axis.tickvals && axis.tickvals.length > 6) {
    const odd = (axis.tickvals.length - 1) % 2;
    axis.ticktext = axis.ticktext.map((text, i) => (i % 2 === odd ? "" : text));
  }
  stagger(layout);
  marksAlone(picture.data);
  layout.annotations = (layout.annotations || []).filter(label => label.name !== "wide");
  if (hints.ticks) return;
  const beside = Math.max(54, 32 + widest(layout.yaxis.ticktext || [], 12.5));
  layout.margin = { ...layout.margin, l: Math.min(layout.margin.l, beside), r: 14 };
  if (hints.height) layout.height = Math.min(layout.height, 340);
}

// Ticks of a log axis whose texts would touch lose theirs.
function parted(axis, length) {
  if (axis.type !== "log" || !axis.ticktext) return;
  const [low, high] = axis.range;
  let end = -Infinity;
  axis.ticktext = axis.ticktext.map((text, i) => {
    const middle = length * (Math.log10(axis.tickvals[i]) - low) / (high - low);
    const half = widthOf(text, 12.5) / 2 + 3;
    if (!text || middle - half < end) return "";
    end = middle + half;
    return text;
  });
}

// Texts beside the last points, pushed apart where they would lie on one another.
function endLabels(picture) {
  const { layout, hints } = picture;
  const height = layout.height - layout.margin.t - layout.margin.b;
  const [low, high] = layout.yaxis.range;
  const place = y => height * (high - (layout.yaxis.type === "log" ? Math.log10(y) : y)) / (high - low);
  let labels = hints.labels.filter(label => shown(label.point)).map(label => ({ ...label, at: place(label.y) }));
  labels.sort((a, b) => a.at - b.at);
  if (labels.length > CROWD) labels = labels.filter((label, i) => label.bold || i === 0 || i === labels.length - 1);
  labels.forEach((label, i) => { if (i) label.at = Math.max(label.at, labels[i - 1].at + LABEL); });
  for (let i = labels.length - 1, floor = height; i >= 0; i -= 1, floor -= LABEL) labels[i].at = Math.min(labels[i].at, floor);
  labels.forEach(label => { label.lines = linesOf(label.text, 32); });
  layout.margin.r = 12 + Math.max(0, ...labels.map(label => widest(label.lines, 12, label.bold)));
  return labels.map(label => ({
    xref: "paper", x: 1, xanchor: "left", xshift: 6, yref: "paper", y: 1 - label.at / height, yanchor: "middle",
    showarrow: false, font: { size: 12, color: label.color },
    text: marked(label.lines, label.bold),
  }));
}

// As high as it is wide, and no larger than its height: equal axes have equal lengths.
function squared(layout) {
  const { l, r, t, b } = layout.margin;
  const side = Math.min(layout.width - l - r, 430);
  layout.width = side + l + r;
  layout.height = side + t + b;
}

// Upright axes side by side do not fit a phone: there they lie, one below another.
function lieDown(picture) {
  picture.layout = picture.hints.turned;
  picture.hints.height = picture.layout.height;
  picture.data.forEach(trace => { [trace.x, trace.y] = [trace.y, trace.x]; });
}

function arranged(made, width) {
  const picture = structuredClone(made);
  if (width < NARROW && picture.hints.turned) lieDown(picture);
  const { layout, hints } = picture;
  picture.data = picture.data.map(keepShown);
  layout.template = pictures.template;
  layout.width = width;
  layout.height = hints.height;
  if (hints.ticks) rowsOf(picture, width < NARROW);
  if (width < NARROW && !hints.turned) slim(picture);
  if (hints.square) squared(layout);
  if (hints.labels && width >= NARROW) layout.annotations = (layout.annotations || []).concat(endLabels(picture));
  parted(layout.xaxis, layout.width - layout.margin.l - layout.margin.r);
  return isDark() ? themed(picture) : picture;
}

function say(box, text) {
  if (window.Plotly && box.data) Plotly.purge(box);
  box.classList.add("empty");
  box.textContent = text;
}

// The picture that a box is to show, arranged, and the room for it; null where there is none for the choice.
function prepared(box, width) {
  const made = variant(box);
  if (!made) { box.style.minHeight = ""; say(box, "No numbers for this choice."); return null; }
  const picture = arranged(made, width);
  const tall = picture.layout.height > 800; // such a box scrolls by itself
  box.classList.toggle("tall", tall);
  box.style.minHeight = tall ? "" : `${picture.layout.height}px`;
  return picture;
}

function paint(box, picture) {
  if (box.classList.contains("empty")) { box.classList.remove("empty"); box.textContent = ""; }
  Plotly.react(box, picture.data, picture.layout, { displayModeBar: false, displaylogo: false, showTips: false, doubleClick: false });
}

function guarded(box, run) {
  try {
    return run();
  } catch (error) {
    console.error(box.dataset.fig, error);
    box.style.minHeight = "";
    fallBack(box, "This picture could not be drawn; its numbers are in the table below.");
    return null;
  }
}

function draw(box, width = box.clientWidth) {
  waiting.delete(box);
  guarded(box, () => { const picture = prepared(box, width); if (picture) paint(box, picture); });
}

function fallBack(box, text) {
  say(box, text);
  const numbers = one("details.numbers", box.closest(".card"));
  if (numbers) numbers.open = true;
}

const boxes = all(".plot");

// Every picture is arranged and has its room at once. Those in the window are drawn at once too, those that come near
// as the reader scrolls, and the others between other work; body[data-drawn], the time at which none was left, says so.
const waiting = new Map(); // box -> its picture
const AHEAD = 0.6; // windows above and below that count as near

function drawAll() {
  if (!window.Plotly || !pictures) return;
  const widths = boxes.map(box => box.clientWidth); // asked at once: between pictures each would be a layout of the page
  waiting.clear();
  boxes.forEach((box, i) => {
    const picture = guarded(box, () => prepared(box, widths[i]));
    if (picture) waiting.set(box, picture);
  });
  delete document.body.dataset.drawn;
  if (isPrinting()) drawWaiting([...waiting.keys()]); else drawNear(0);
  drawRest();
}

function drawWaiting(some) {
  some.forEach(box => {
    const picture = waiting.get(box);
    waiting.delete(box);
    guarded(box, () => paint(box, picture));
  });
  if (waiting.size) return;
  document.body.dataset.drawn = Math.round(performance.now());
  document.body.dataset.width = root.clientWidth;
}

function drawNear(ahead = AHEAD) {
  const seen = Array.from(waiting.keys(), box => [box, box.getBoundingClientRect()]);
  const top = -ahead * innerHeight, bottom = (1 + ahead) * innerHeight;
  drawWaiting(seen.filter(([, at]) => at.bottom > top && at.top < bottom).map(([box]) => box));
}

let idle = false;
function drawRest() {
  if (idle || !waiting.size) return;
  idle = true;
  const next = () => { idle = false; drawWaiting([...waiting.keys()].slice(0, 1)); drawRest(); };
  if (window.requestIdleCallback) requestIdleCallback(next, { timeout: 300 }); else setTimeout(next, 30);
}

function redrawCard(control) {
  const card = control.closest(".card");
  all(".plot", card).forEach(box => draw(box));
  all("table[data-matrix]", card).forEach(fill);
  rewriteAddress();
}

function press(button) {
  all("button", button.parentElement).forEach(other => other.setAttribute("aria-pressed", String(other === button)));
  redrawCard(button);
}

async function loadFigures() {
  pictures = JSON.parse(await inflated("#figures"));
}

// The drawing library lies in the page, or in a file beside the reports that share it.
async function loadPlotly() {
  const script = document.createElement("script"), beside = one("#plotly").dataset.src;
  if (!beside) script.textContent = await inflated("#plotly");
  const loaded = beside && new Promise((done, fail) => Object.assign(script, { onload: done, onerror: fail, src: beside }));
  document.head.append(script);
  return loaded;
}
