// The form. A slider rests at the field's stops; any whole number that is allowed can be typed.
const WORK = {
  context: { key: "context", doc: "tokens of a sequence", stops: [], least: 1, most: data.most.context },
  batch: { key: "batch", doc: "sequences at once", stops: Array.from({ length: 11 }, (_, i) => 2 ** i), least: 1, most: data.most.batch },
};
const contextStops = Array.from({ length: 15 }, (_, i) => 2 ** (i + 6));
const idOf = key => "f-" + key.replace(/\./g, "-");
const valueOf = (state, key) => key in WORK ? state[key] : state.sizes[key];
const limitsOf = key => key in WORK ? WORK[key] : fieldOf(modelOf(now), key);

function setValue(key, value) {
  if (key in WORK) now[key] = value; else now.sizes[key] = value;
  refresh();
}

function nearestStop(stops, value) {
  let best = 0;
  stops.forEach((stop, i) => { if (Math.abs(Math.log(stop / value)) < Math.abs(Math.log(stops[best] / value))) best = i; });
  return best;
}

function field(spec) {
  const id = idOf(spec.key), row = element("div", "field");
  row.dataset.key = spec.key;
  const label = element("label", "", spec.key);
  label.title = spec.doc;
  if (spec.fixed !== undefined) return fixedField(row, label, spec);
  label.htmlFor = id;
  const typed = element("input"), slider = element("input"), problem = element("small", "wrong");
  Object.assign(typed, { type: "text", id, inputMode: "numeric" });
  Object.assign(slider, { type: "range", min: 0, max: spec.stops.length - 1, step: 1, title: spec.doc });
  slider.setAttribute("aria-label", `${spec.key}, slider`);
  problem.id = id + "-problem";
  typed.setAttribute("aria-describedby", problem.id);
  problem.hidden = true;
  slider.addEventListener("input", () => setValue(spec.key, spec.stops[slider.value]));
  typed.addEventListener("input", () => readTyped(spec, typed, problem));
  typed.addEventListener("blur", () => showField(row));
  row.append(label, typed, slider, problem);
  return row;
}

function fixedField(row, label, spec) {
  row.classList.add("fixed");
  row.append(label, element("output", "", say.plain(spec.base)), element("small", "", spec.fixed));
  return row;
}

function readTyped(spec, typed, problem) {
  const value = readCount(typed.value), good = Number.isInteger(value) && value >= spec.least && value <= spec.most;
  typed.setAttribute("aria-invalid", String(!good));
  problem.hidden = good;
  const kept = valueOf(now, spec.key);
  problem.textContent = good ? "" : `${typed.value || "nothing"} is no whole number from ${say.plain(spec.least)} to ${say.plain(spec.most)}; ${say.plain(kept)} is kept`;
  if (good) setValue(spec.key, value);
}

function showField(row) {
  const key = row.dataset.key, typed = one("input[type=text]", row), slider = one("input[type=range]", row);
  if (!typed) return;
  const spec = limitsOf(key), value = valueOf(now, key);
  if (document.activeElement !== typed) {
    typed.value = String(value);
    typed.setAttribute("aria-invalid", "false");
    one(".wrong", row).hidden = true;
  }
  slider.value = nearestStop(spec.stops, value);
  slider.setAttribute("aria-valuetext", say.plain(value));
  row.classList.toggle("changed", value !== valueOf(pinned, key));
  row.hidden = !(key in WORK) && !isRead(modelOf(now), now, spec);
}

function patternField(model) {
  const row = element("label", "field wide", element("span", "", "pattern")), menu = element("select");
  menu.id = "pattern";
  model.patterns.forEach((pattern, i) => menu.append(new Option(pattern.label + (i ? "" : " (its own)"), i)));
  menu.addEventListener("change", () => { now.pattern = Number(menu.value); refresh(); });
  row.append(menu);
  return row;
}

function buildForm() {
  const model = modelOf(now);
  WORK.context.stops = [...new Set([...contextStops, model.context])].sort((a, b) => a - b);
  one("#model").value = now.model;
  one("#shape").replaceChildren(...(model.patterns.length > 1 ? [patternField(model)] : []), ...model.fields.map(field));
  one("#work").replaceChildren(...Object.values(WORK).map(field));
}

function buildPlaces() {
  one("#precision").replaceChildren(...data.precisions.map(p => new Option(`${p.name}: ${p.title}`, p.name)));
  const kinds = [...new Set(data.devices.map(device => device.kind))];
  one("#device").replaceChildren(...kinds.map(kind => {
    const group = element("optgroup");
    group.label = kind;
    group.append(...data.devices.filter(d => d.kind === kind).map(d => new Option(`${d.title}, ${say.bytes(d.available_bytes)}`, d.name)));
    return group;
  }));
  ["precision", "device"].forEach(key => one("#" + key).addEventListener("change", event => { now[key] = event.target.value; refresh(); }));
}

function showForm() {
  all(".field[data-key]").forEach(showField);
  const menu = one("#pattern");
  if (menu) menu.value = now.pattern;
  ["precision", "device"].forEach(key => {
    one("#" + key).value = now[key];
    one("#" + key).closest(".field").classList.toggle("changed", now[key] !== pinned[key]);
  });
  if (menu) menu.closest(".field").classList.toggle("changed", now.pattern !== pinned.pattern);
}
