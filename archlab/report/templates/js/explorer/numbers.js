// Tiles, the sentence at the top, and the table of every number.
const KINDS_OF = name => /_bound_/.test(name) ? "bound" : /^memory_(bytes|activations|reserved)|^fits$|^max_/.test(name) ? "estimate" : "calculated";
const showOf = name => /_bytes$/.test(name) ? say.bytes : /_s$/.test(name) ? say.seconds : /^flops/.test(name) ? say.flop : /^max_|layers/.test(name) ? say.plain : say.count;
const SAID = {
  params: "parameters", kv_cache_bytes: "KV cache", weights_bytes: "weights", flops_prefill: "prefill work",
  flops_decode: "work a token", memory_bytes: "memory", decode_bound_s: "the least time of a step",
};
const formatOf = state => precisionOf(state.precision).compute;
const ratesIn = state => runsIn(deviceOf(state.device), formatOf(state));
const widened = state => ratesIn(state) === formatOf(state) ? "" : ratesIn(state) ? `no ${formatOf(state)} rate: products in ${ratesIn(state)}` : `no rate for ${formatOf(state)} products`;

function verdict(state, numbers) {
  const room = deviceOf(state.device).available_bytes, left = room - numbers.memory_bytes;
  return left < 0 ? ["no", "does not fit"] : left < data.tight * room ? ["tight", "fits, barely"] : ["fits", "fits"];
}

function tile(title, big, delta, kind, more) {
  const box = element("div", "tile", element("div", "", title), element("div", "big", ...bigOf(big)), element("div", "delta", delta));
  if (more) box.append(more);
  else box.append(element("span", `tag ${kind}`, kind));
  return box;
}

// '25.99 B' -> the number, and its unit in small.
function bigOf(text) {
  const [, number, unit] = /^(\S+)(?: (.+))?$/.exec(text);
  return unit && number !== "–" ? [number, " ", element("span", "", unit)] : [text];
}

function tiles(then, here) {
  const against = (name, show) => here[name] === then[name] ? "as the baseline" : `${change(here[name], then[name])}; was ${show(then[name])}`;
  const [kind, words] = verdict(now, here);
  const device = deviceOf(now.device), pill = element("span", `verdict ${kind}`, words);
  const use = fixed(100 * here.memory_bytes / device.available_bytes, 0);
  const speed = state => numbers => state.batch / numbers.decode_bound_s;
  const was = speed(pinned)(then), is = speed(now)(here);
  one("#summary").textContent = `${say.count(here.params)}, KV cache ${say.bytes(here.kv_cache_bytes)}, memory ${say.bytes(here.memory_bytes)} (${words})`;
  one("#tiles").replaceChildren(
    tile("Parameters", say.count(here.params), against("params", say.count), "calculated"),
    tile(`KV cache, ${now.batch} x ${say.tokens(now.context)}`, say.bytes(here.kv_cache_bytes), against("kv_cache_bytes", say.bytes), "calculated"),
    tile(`Memory, ${use} % of ${device.title}`, say.bytes(here.memory_bytes), against("memory_bytes", say.bytes), "estimate", pill),
    tile("Decoding, at most", say.rate(is), widened(now) || (was === is ? "as the baseline" : `${change(is, was)}; was ${say.rate(was)}`), "bound"),
    tile("Longest context", here.max_context ? say.plain(here.max_context) : "none", `of ${say.tokens(modelOf(now).context)} trained; ${change(here.max_context, then.max_context)}`, "estimate"),
    tile("Largest batch", here.max_batch ? say.plain(here.max_batch) : "none", `at ${say.tokens(now.context)}; ${change(here.max_batch, then.max_batch)}`, "estimate"),
  );
}

// The finding: what was changed, and the three numbers that it moves most.
function headline(then, here) {
  const changed = differences(now, pinned);
  if (now.model !== pinned.model || !changed.length) {
    return `${now.model}: ${say.count(here.params)} parameters, ${say.bytes(here.kv_cache_bytes)} of KV cache at ${say.tokens(now.context)}`;
  }
  const moved = Object.keys(SAID).filter(name => here[name] > 0 && then[name] > 0 && here[name] !== then[name]);
  const size = name => Math.abs(Math.log(here[name] / then[name]));
  const told = moved.sort((a, b) => size(b) - size(a)).slice(0, 3).map(name => `${SAID[name]} ${change(here[name], then[name])}`);
  const what = changed.slice(0, 3).map(([key, value]) => `${key.replace(/^(attention|mlp|local)\./, "")} ${typeof value === "number" ? say.plain(value) : value}`);
  const more = changed.length > 3 ? ` and ${changed.length - 3} more changes` : "";
  return `${what.join(", ")}${more}: ${told.join(", ") || "no number moves"}`;
}

function numberRows(then, here) {
  const names = [...new Set([...Object.keys(then), ...Object.keys(here)])].filter(name => !/_bound_by$|^fits$|^memory_(host|budget|reserved)/.test(name));
  const shown = names.filter(name => then[name] || here[name]);
  const first = name => name.startsWith("params") || name === "active_params" ? 0 : name.startsWith("weights") ? 1 : name.startsWith("kv_") ? 2 : name.startsWith("memory") ? 3 : name.startsWith("max_") ? 4 : name.startsWith("flops") ? 5 : 6;
  return shown.sort((a, b) => first(a) - first(b));
}

function table(then, here) {
  one("#numbers tbody").replaceChildren(...numberRows(then, here).map(name => {
    const show = showOf(name), head = element("th", "", name);
    head.scope = "row";
    const kind = element("td", "kind", element("span", `tag ${KINDS_OF(name)}`, KINDS_OF(name)));
    const cells = [then[name], here[name]].map(value => { const td = element("td", "", show(value)); td.title = String(value); return td; });
    return element("tr", "", head, cells[1], element("td", "", change(here[name], then[name])), cells[0], kind);
  }));
}

function chips() {
  const changed = differences(now, pinned);
  const made = changed.map(([key, value, base]) => {
    const chip = element("button", "chip", element("span", "", `${key} ${typeof value === "number" ? say.plain(value) : value}`), element("i", "", "×"));
    chip.type = "button";
    chip.title = `back to ${base}`;
    chip.addEventListener("click", () => { restore(key); refresh(); });
    return chip;
  });
  one("#changes").replaceChildren(...(made.length ? made : [element("span", "unchanged", "As the baseline. Move something.")]));
}

function restore(key) {
  if (key in now.sizes) now.sizes[key] = pinned.sizes[key]; else now[key] = pinned[key];
}
