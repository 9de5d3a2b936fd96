// Stacked bars of the baseline and of now, one scale for both, and their parts in a list below.
const partColour = name => { const known = getComputedStyle(root).getPropertyValue("--part-" + name); return `var(--part-${known ? name : "other"})`; };
const partName = name => name.replace(/_/g, " ").replace("mlp", "MLP").replace("kv ", "KV ").replace("moe", "experts");
const sum = parts => Object.values(parts).reduce((a, b) => a + b, 0);

function track(parts, scale, limit) {
  const bar = element("div", "track");
  Object.entries(parts).forEach(([name, value]) => {
    const piece = element("i");
    piece.style.cssText = `width:${100 * value / scale}%;--c:${partColour(name)}`;
    bar.append(piece);
  });
  if (limit) {
    const rule = element("span", "limit");
    rule.style.left = `${100 * limit / scale}%`;
    bar.append(rule);
  }
  return bar;
}

function bars(box, then, here, show, limits, note) {
  const scale = Math.max(sum(then), sum(here), ...limits.filter(Boolean)) * 1.02;
  const stack = element("div", "stack");
  [["Baseline", then, limits[0]], ["Now", here, limits[1]]].forEach(([name, parts, limit], i) => {
    stack.append(element("span", "", name), track(parts, scale, limit), element("div", "total", `${show(sum(parts))}${note ? note(i) : ""}`));
  });
  const list = element("div", "parts", element("b", "", ""), element("b", "", "baseline"), element("b", "", "now"));
  [...new Set([...Object.keys(here), ...Object.keys(then)])].filter(name => then[name] || here[name]).forEach(name => {
    const mark = element("i");
    mark.style.setProperty("--c", partColour(name));
    list.append(element("span", "name", mark, partName(name)), element("span", "", show(then[name] || 0)), element("span", "", show(here[name] || 0)));
  });
  box.replaceChildren(stack, list);
}

// prefix_PART_suffix -> {PART: value}, largest first, zeros left out.
function partsOf(numbers, prefix, suffix) {
  const found = Object.entries(numbers).filter(([name, value]) => name.startsWith(prefix) && name.endsWith(suffix) && name.length > prefix.length + suffix.length && value > 0);
  return Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length, name.length - suffix.length), value]).sort((a, b) => b[1] - a[1]));
}

function strips(box) {
  const pair = element("div", "strip-pair");
  [["Baseline", pinned], ["Now", now]].forEach(([name, state]) => {
    const cells = element("div", "cells-of"), model = modelOf(state);
    const pattern = model.patterns.length ? model.patterns[state.pattern].pattern : model.order;
    const depth = state.sizes.n_layers;
    for (let i = 0; i < Math.min(depth, 512); i++) {
      const cell = element("i");
      cell.style.setProperty("--c", partColour(pattern[i % pattern.length]));
      cells.append(cell);
    }
    cells.setAttribute("role", "img");
    cells.setAttribute("aria-label", `${depth} layers: ${countsOf(model, state)}`);
    pair.append(element("span", "", name), cells);
  });
  const kinds = [...new Set([pinned, now].flatMap(state => modelOf(state).patterns.length ? modelOf(state).patterns[state.pattern].pattern : modelOf(state).order))];
  const legend = element("ul", "legend", ...kinds.map(kind => {
    const mark = element("i");
    mark.style.setProperty("--c", partColour(kind));
    return element("li", "", mark, kind);
  }));
  legend.style.marginTop = "12px";
  box.replaceChildren(pair, legend);
}

function countsOf(model, state) {
  const own = kind => model.order.filter(other => other === kind).length;
  const counts = model.patterns.length ? layersOf(state) : Object.fromEntries(model.order.map(kind => [kind, own(kind)]));
  return Object.entries(counts).filter(([, n]) => n > 0).map(([kind, n]) => `${n} ${kind}`).join(", ");
}
