// What is shown: a model, what of it was changed, the work, the place; and the same of the pinned baseline.
const START = { context: 8192, batch: 1 };
let loaded = null; // {models, functions}: the formulas, once they are inflated
let now = null, pinned = null;

const modelOf = state => loaded.models.find(model => model.name === state.model);
const fieldOf = (model, key) => model.fields.find(field => field.key === key);
const isMovable = field => field.fixed === undefined;
const copyOf = state => ({ ...state, sizes: { ...state.sizes } });

function released(model, place) {
  const sizes = Object.fromEntries(model.fields.map(field => [field.key, field.base]));
  const first = { precision: data.precisions[0].name, device: data.device };
  return { model: model.name, sizes, pattern: 0, context: Math.min(START.context, model.context), batch: START.batch, ...first, ...place };
}

// What sets a state apart from another of the same model: [name, value, the other's value].
function differences(state, other) {
  const model = modelOf(state);
  const sizes = model.fields.filter(field => state.sizes[field.key] !== other.sizes[field.key] && isRead(model, state, field));
  const found = sizes.map(field => [field.key, state.sizes[field.key], other.sizes[field.key]]);
  if (state.pattern !== other.pattern) found.push(["pattern", model.patterns[state.pattern].label, model.patterns[other.pattern].label]);
  return found.concat(["context", "batch", "precision", "device"].filter(key => state[key] !== other[key]).map(key => [key, state[key], other[key]]));
}

// A window of local layers says nothing where there are none.
function isRead(model, state, field) {
  const kind = field.key.split(".")[0];
  return !model.kinds.includes(kind) || model.patterns[state.pattern].pattern.includes(kind);
}
