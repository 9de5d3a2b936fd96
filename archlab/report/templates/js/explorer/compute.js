// The numbers of a state: the printed formulas, given what they take.
const deviceOf = name => data.devices.find(device => device.name === name);
const precisionOf = name => data.precisions.find(precision => precision.name === name);

function layersOf(state) {
  const model = modelOf(state);
  if (!model.patterns.length) return {};
  const counts = loaded.functions[model.layers]([state.sizes.n_layers]);
  return Object.fromEntries(model.kinds.map(kind => [kind, counts[`${state.pattern}:${kind}`]]));
}

// A narrow format that a device does not multiply is widened first, as archlab fit takes it.
const runsIn = (device, format) => [format, "bf16", "fp16", "fp32"].find(name => name in device.peak_flops);

function input(key, state, layers) {
  const device = deviceOf(state.device);
  if (key in state.sizes) return state.sizes[key];
  if (key.startsWith("layers.")) return layers[key.slice(7)];
  if (key.startsWith("workload.")) return state[key.slice(9)];
  if (key === "hardware.memory_bytes") return device.available_bytes;
  if (key === "hardware.bandwidth_bytes_per_s") return device.bandwidth_bytes_per_s;
  return device.peak_flops[runsIn(device, key.slice("hardware.peak_flops.".length))] ?? NaN;
}

// {numbers}, or {refusal: a sentence}.
function compute(state) {
  const model = modelOf(state), layers = layersOf(state);
  const present = model.kinds.filter(kind => layers[kind] > 0), formulas = model.numbers[present.join("+")];
  // A pattern of more kinds than there are layers of is cut by the depth, and may be what a shorter one may not.
  const whole = model.kinds.length === 0 || new Set(model.patterns[state.pattern].pattern).size === present.length;
  if (formulas.refused && whole) return { refusal: formulas.refused };
  const found = loaded.functions[formulas.source](model.inputs.map(key => input(key, state, layers)));
  const broken = Object.keys(formulas.rules).find(rule => !found[rule]);
  if (broken) return { refusal: formulas.rules[broken].replace(/\{(\d+)\}/g, (_, i) => String(found[`said:${i}`])) };
  const own = state.precision + ":";
  const numbers = Object.entries(found).filter(([name]) => name.startsWith(own)).map(([name, value]) => [name.slice(own.length), value]);
  return { numbers: Object.fromEntries(numbers), layers };
}

const POSITIONS = Array.from({ length: 15 }, (_, i) => 2 ** (i + 7)); // 128 to 2M tokens

// One number at contexts up to the trained one, and at that of the work; batch 1.
function along(state, name) {
  const most = Math.max(modelOf(state).context, state.context);
  const at = [...new Set([...POSITIONS.filter(x => x <= most), most, state.context])].sort((a, b) => a - b);
  return at.map(context => ({ x: context, y: compute({ ...state, context, batch: 1 }).numbers?.[name] })).filter(point => point.y > 0);
}
