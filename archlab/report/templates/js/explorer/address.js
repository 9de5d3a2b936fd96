// The state in the address: #model=...&local.window=512&context=32768&pin.local.window=1024
const PLACES = ["context", "batch", "precision", "device"];

function entriesOf(state, prefix) {
  const base = released(modelOf(state)), found = [];
  Object.entries(state.sizes).forEach(([key, value]) => { if (value !== base.sizes[key]) found.push([prefix + key, value]); });
  if (state.pattern !== base.pattern) found.push([prefix + "pattern", state.pattern]);
  PLACES.forEach(key => { if (state[key] !== base[key]) found.push([prefix + key, state[key]]); });
  return found;
}

const addressOf = () => {
  const pinModel = pinned.model === now.model ? [] : [["pin.model", pinned.model]];
  const entries = [["model", now.model], ...entriesOf(now, ""), ...pinModel, ...entriesOf(pinned, "pin.")];
  if (themeInAddress) entries.push(["theme", themeInAddress]);
  return entries.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
};

function stateFrom(said, prefix, model) {
  const state = released(model);
  const whole = (key, least, most) => { const n = Number(said.get(prefix + key)); return said.has(prefix + key) && Number.isInteger(n) && n >= least && n <= most ? n : null; };
  model.fields.filter(isMovable).forEach(field => { state.sizes[field.key] = whole(field.key, field.least, field.most) ?? state.sizes[field.key]; });
  state.pattern = whole("pattern", 0, model.patterns.length - 1) ?? 0;
  ["context", "batch"].forEach(key => { state[key] = whole(key, WORK[key].least, WORK[key].most) ?? state[key]; });
  if (precisionOf(said.get(prefix + "precision"))) state.precision = said.get(prefix + "precision");
  if (deviceOf(said.get(prefix + "device"))) state.device = said.get(prefix + "device");
  return state;
}

// What an address says that this page cannot take.
function unknownIn(said, model) {
  const known = { theme: name => ["dark", "light"].includes(name), model: name => loaded.models.some(m => m.name === name), precision: precisionOf, device: deviceOf };
  const whole = (key, value) => { const n = Number(value), spec = key === "pattern" ? { least: 0, most: model.patterns.length - 1 } : WORK[key] || model.fields.filter(isMovable).find(f => f.key === key); return spec && Number.isInteger(n) && n >= spec.least && n <= spec.most; };
  return [...said].filter(([key, value]) => { const name = key.replace(/^pin\./, ""); return !(name in known ? known[name](value) : whole(name, value)); });
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const named = name => loaded.models.find(model => model.name === said.get(name));
  const model = named("model") || loaded.models.find(model => model.name === data.first) || loaded.models[0];
  now = stateFrom(said, "", model);
  pinned = stateFrom(said, "pin.", named("pin.model") || model);
  themeInAddress = ["dark", "light"].find(theme => theme === said.get("theme")) || null;
  if (themeInAddress) root.dataset.theme = themeInAddress;
  nameTheme();
  const unknown = unknownIn(said, model).map(([key, value]) => `${key}=${value}`);
  one("#unknown").hidden = !unknown.length;
  one("#unknown").textContent = unknown.length ? `The link says ${unknown.join(", ")}, which this page does not have; shown is what it has instead.` : "";
}

const rewriteAddress = () => history.replaceState(null, "", "#" + addressOf());
const writeAddress = later(150, rewriteAddress);
let themeInAddress = null;
