// Two lines on logarithmic axes, the baseline dashed: drawn as SVG, since a slider draws them at every step.
const PLOT = { height: 260, left: 72, right: 16, top: 12, bottom: 34 };
const svg = (tag, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  if (text !== undefined) made.textContent = text;
  return made;
};

// Powers of two for tokens and bytes; else 1, 2, 5 and so on, as fine as the range wants it.
function ticksOf(low, high, binary) {
  const found = [], base = binary ? 2 : 10, steps = binary ? [1] : high / low < 6 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : high / low < 200 ? [1, 2, 5] : [1];
  for (let i = Math.floor(Math.log(low) / Math.log(base)); base ** i <= high; i++) {
    steps.forEach(step => { if (step * base ** i >= low && step * base ** i <= high) found.push(step * base ** i); });
  }
  return found.filter((_, i) => i % Math.ceil(found.length / 6) === 0);
}

const shortly = text => text.replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\.(?= |$)/, "");

function lines(box, then, here, show, at, bytes) {
  const width = Math.max(box.clientWidth, 220), points = [...then, ...here];
  if (!points.length) return box.replaceChildren(element("p", "unchanged", "Nothing to draw."));
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 * 2), y0 = Math.min(...ys) / 1.25, y1 = Math.max(...ys) * 1.25;
  const px = x => PLOT.left + (width - PLOT.left - PLOT.right) * Math.log(x / x0) / Math.log(x1 / x0);
  const py = y => PLOT.height - PLOT.bottom - (PLOT.height - PLOT.top - PLOT.bottom) * Math.log(y / y0) / Math.log(y1 / y0);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${PLOT.height}`, role: "img", "aria-label": box.dataset.about });
  ticksOf(y0, y1, bytes).forEach(y => {
    drawing.append(svg("line", { class: "grid", x1: PLOT.left, x2: width - PLOT.right, y1: py(y), y2: py(y) }));
    drawing.append(svg("text", { x: PLOT.left - 8, y: py(y) + 4, "text-anchor": "end" }, shortly(show(y))));
  });
  const ticks = ticksOf(x0, x1, true);
  ticks.filter((_, i) => width > 420 || i % 2 === 0).forEach(x => {
    drawing.append(svg("text", { x: px(x), y: PLOT.height - 12, "text-anchor": "middle" }, say.tokens(x)));
    drawing.append(svg("line", { class: "axis", x1: px(x), x2: px(x), y1: PLOT.height - PLOT.bottom, y2: PLOT.height - PLOT.bottom + 4 }));
  });
  drawing.append(svg("line", { class: "axis", x1: PLOT.left, x2: width - PLOT.right, y1: PLOT.height - PLOT.bottom, y2: PLOT.height - PLOT.bottom }));
  drawing.append(svg("line", { class: "here", x1: px(at), x2: px(at), y1: PLOT.top, y2: PLOT.height - PLOT.bottom }));
  const path = of => of.map((p, i) => `${i ? "L" : "M"}${px(p.x).toFixed(1)} ${py(p.y).toFixed(1)}`).join("");
  drawing.append(svg("path", { class: "then", d: path(then) }), svg("path", { class: "now", d: path(here) }));
  const mark = here.find(p => p.x === at);
  if (mark) drawing.append(svg("circle", { class: "dot", cx: px(mark.x), cy: py(mark.y), r: 4.5 }));
  const tip = element("div", "tip");
  tip.hidden = true;
  drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
  drawing.addEventListener("pointermove", event => showTip(event, drawing, tip, { then, here, px, show, width }));
  box.replaceChildren(drawing, tip, lineTable(then, here, show));
}

function showTip(event, drawing, tip, { then, here, px, show, width }) {
  const bounds = drawing.getBoundingClientRect(), x = (event.clientX - bounds.left) * width / bounds.width;
  const places = [...new Set([...then, ...here].map(p => p.x))];
  const near = places.reduce((a, b) => Math.abs(px(b) - x) < Math.abs(px(a) - x) ? b : a);
  const [was, is] = [then, here].map(of => of.find(p => p.x === near));
  tip.replaceChildren(element("b", "", `${say.plain(near)} tokens`), element("br"), `now ${is ? show(is.y) : "–"}`, element("br"), `baseline ${was ? show(was.y) : "–"}`);
  tip.hidden = false;
  const left = px(near) * bounds.width / width;
  tip.style.left = `${Math.min(Math.max(left + 10, 0), bounds.width - tip.offsetWidth)}px`;
  tip.style.top = "14px";
}

function lineTable(then, here, show) {
  const places = [...new Set([...then, ...here].map(p => p.x))].sort((a, b) => a - b);
  const cell = (of, x) => { const found = of.find(p => p.x === x); return element("td", "", found ? show(found.y) : "–"); };
  const rows = places.map(x => {
    const head = element("th", "", say.plain(x));
    head.scope = "row";
    return element("tr", "", head, cell(then, x), cell(here, x));
  });
  const heads = ["Tokens", "Baseline", "Now"].map((name, i) => { const th = element("th", i ? "number" : "", name); th.scope = "col"; return th; });
  const table = element("table", "", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...rows));
  return element("details", "numbers", element("summary", "", "Numbers"), element("div", "scroll", table));
}
