// The design as archlab's own file and commands.
const word = text => /^[\w.,:@%+=/-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;

// local local global -> [local*2, global]
function patternText(pattern) {
  const runs = [];
  pattern.forEach(kind => { const last = runs[runs.length - 1]; if (last && last[0] === kind) last[1]++; else runs.push([kind, 1]); });
  return `[${runs.map(([kind, n]) => n > 1 ? `${kind}*${n}` : kind).join(", ")}]`;
}

// What the shape says otherwise than the model's file: [dotted key, text].
function changedKeys(state) {
  const model = modelOf(state), base = released(model);
  const sizes = model.fields.filter(field => isMovable(field) && isRead(model, state, field) && (state.sizes[field.key] !== field.base || isNew(model, state, field)));
  const keys = sizes.map(field => [field.key, String(state.sizes[field.key])]);
  return state.pattern === base.pattern ? keys : [["pattern", patternText(model.patterns[state.pattern].pattern)], ...keys];
}

// The window of a model that had no local layers before.
const isNew = (model, state, field) => field.added && state.pattern !== 0;

const flow = value => Array.isArray(value) ? `[${value.map(flow).join(", ")}]`
  : value && typeof value === "object" ? `{${Object.entries(value).map(([k, v]) => `${k}: ${flow(v)}`).join(", ")}}`
  : typeof value === "string" && !/^[\w\[][\w.*,\[\] -]*$/.test(value) ? JSON.stringify(value) : String(value);

function yamlOf(state) {
  const model = modelOf(state), tree = structuredClone(model.whole || {});
  changedKeys(state).forEach(([key, text]) => {
    const path = key.split("."), last = path.pop();
    let place = tree;
    path.forEach(name => { place = place[name] = place[name] || {}; });
    place[last] = text;
  });
  const start = model.whole ? [] : [`defaults: [${model.stem}, _self_]`];
  tree.name = `${model.name}-explored`;
  tree.source = `started from ${model.name} in the explorer`;
  return [...start, ...Object.entries(tree).map(([key, value]) => `${key}: ${flow(value)}`)].join("\n") + "\n";
}

function commandOf(state) {
  const keys = changedKeys(state).map(([key, text]) => word(`${key}=${text.replace(/ /g, "")}`)), path = word(modelOf(state).word);
  const fit = ["archlab fit", path, ...keys, "--hardware", state.device, "--context", state.context, "--batch", state.batch, "--precision", state.precision];
  return [["archlab describe", path, ...keys].join(" "), fit.join(" ")].join("\n") + "\n";
}

async function copyText(text, what) {
  let said = `${what} copied`;
  try { await navigator.clipboard.writeText(text); } catch (e) {
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    if (!document.execCommand("copy")) said = "select and copy it below";
    area.remove();
  }
  one("#copied").textContent = said;
}

function csvOf(then, here) {
  const rows = numberRows(then, here).map(name => [name, then[name] ?? "", here[name] ?? "", KINDS_OF(name)]);
  return csv([["number", "baseline", "now", "kind"], ...rows]);
}
