// One pass from the state to the page; a slider asks for one a frame.
const drawAll = () => {}; // its pictures are drawn in the colours of the style sheet
let asked = false;

function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; show(); });
}

function show() {
  showForm();
  chips();
  writeAddress();
  const then = compute(pinned), here = compute(now);
  one("#refusal").hidden = !here.refusal && !then.refusal;
  one("#refusal").textContent = here.refusal ? `This cannot be: ${here.refusal}.` : then.refusal ? `The baseline cannot be: ${then.refusal}.` : "";
  one("#answers").classList.toggle("stale", Boolean(here.refusal || then.refusal));
  if (here.refusal || then.refusal) return;
  showNumbers(then.numbers, here.numbers);
  showPictures(then.numbers, here.numbers);
}

function showNumbers(then, here) {
  one("#headline").textContent = headline(then, here);
  one("#lede").textContent = `${now.model}, ${now.batch} x ${say.tokens(now.context)} tokens in ${now.precision} on ${deviceOf(now.device).title}. ` + (now.model === pinned.model ? "" : `Baseline: ${pinned.model}. `) + (now.context > modelOf(now).context ? `The context is longer than the ${say.tokens(modelOf(now).context)} that it was trained for.` : "");
  tiles(then, here);
  table(then, here);
  one("#formulas dl").replaceChildren(...Object.entries(modelOf(now).formulas).flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]));
  one("#yaml").textContent = yamlOf(now);
  one("#command").textContent = commandOf(now);
}

function showPictures(then, here) {
  const rooms = [pinned, now].map(state => deviceOf(state.device).available_bytes);
  const memory = numbers => partsOf({ ...numbers, memory_bytes: 0, memory_host_bytes: 0, memory_reserved_bytes: 0, memory_budget_bytes: 0 }, "memory_", "_bytes");
  one("#memory-caption").textContent = `Dotted: what a program can have of ${deviceOf(now.device).title}.`;
  bars(one("#memory"), memory(then), memory(here), say.bytes, rooms, i => ` of ${say.bytes(rooms[i])}`);
  one("#decode-caption").textContent = "The least time, operation by operation, at the data sheet's rates." + (widened(now) ? ` ${deviceOf(now.device).title} has ${widened(now)}.` : "");
  bars(one("#decode"), partsOf(then, "decode_bound_", "_s"), partsOf(here, "decode_bound_", "_s"), say.seconds, []);
  bars(one("#parameters"), partsOf(then, "params_", ""), partsOf(here, "params_", ""), say.count, []);
  one("#kv-caption").textContent = "One sequence. Dashed: the baseline; the dotted rule is the chosen context.";
  lines(one("#kv"), along(pinned, "kv_cache_bytes"), along(now, "kv_cache_bytes"), say.bytes, now.context, true);
  lines(one("#flops"), along(pinned, "flops_decode"), along(now, "flops_decode"), say.flop, now.context, false);
  strips(one("#layers"));
  one("#layers-caption").textContent = modelOf(now).patterns.length ? modelOf(now).patterns[now.pattern].label : "";
}

function start() {
  one("#model").addEventListener("change", event => {
    now = released(loaded.models.find(model => model.name === event.target.value), Object.fromEntries(PLACES.map(key => [key, now[key]])));
    pinned = copyOf(now);
    history.pushState(null, "", "#" + addressOf());
    buildForm();
    show();
  });
  one("#pin").addEventListener("click", () => { pinned = copyOf(now); show(); });
  one("#reset").addEventListener("click", () => { now = copyOf(pinned); show(); });
  one("#theme").addEventListener("click", switchTheme);
  one("#copy-yaml").addEventListener("click", () => copyText(yamlOf(now), "YAML"));
  one("#copy-command").addEventListener("click", () => copyText(commandOf(now), "Commands"));
  one("#csv").addEventListener("click", () => download(`${fileName(now.model)}.csv`, "text/csv", csvOf(compute(pinned).numbers, compute(now).numbers)));
  one("#json").addEventListener("click", () => download(`${fileName(now.model)}.json`, "application/json", JSON.stringify({ baseline: pinned, now, numbers: compute(now).numbers }, null, 1)));
  const back = () => { if (location.hash.slice(1) !== addressOf()) { readAddress(); buildForm(); show(); } };
  ["hashchange", "popstate"].forEach(event => addEventListener(event, back));
  addEventListener("resize", later(120, show));
}

async function begin() {
  const code = element("script");
  code.textContent = `window.archlabLoad = () => { ${JSON.parse(await inflated("#programs"))} };`;
  document.head.append(code);
  loaded = window.archlabLoad();
  ["kv", "flops"].forEach(id => { one("#" + id).classList.add("line-plot"); });
  one("#kv").dataset.about = "KV cache against context, baseline and now; the numbers are in the table below.";
  one("#flops").dataset.about = "FLOPs of one token against its position, baseline and now; the numbers are in the table below.";
  readAddress();
  buildPlaces();
  buildForm();
  start();
  show();
  window.archlab = { compute, state: () => now, set: state => { now = { ...copyOf(now), ...state }; pinned = now.model === pinned.model ? pinned : released(modelOf(now)); buildForm(); show(); } };
  document.body.dataset.ready = "1";
}

begin();
