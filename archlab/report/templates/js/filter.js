// One filter for pictures, tables and strips.
const hidden = new Set();
const pills = all("#pills .pill");
const facetKeys = pills.map(pill => pill.dataset.key);

const shown = point => !data.points[point].facets.some(facet => hidden.has(facetKeys[facet]));

function hideOnly(names) {
  hidden.clear();
  names.filter(name => facetKeys.includes(name)).forEach(name => hidden.add(name));
}

function showFiltered() {
  pills.forEach(pill => pill.setAttribute("aria-pressed", String(!hidden.has(pill.dataset.key))));
  all("[data-point]").forEach(row => { row.hidden = !shown(+row.dataset.point); });
  all("[data-points]").forEach(mine => { mine.hidden = !mine.dataset.points.split(" ").some(p => shown(+p)); });
  one("#show-all").hidden = hidden.size === 0;
  one("#all-hidden").hidden = data.points.some(({ facets }, point) => facets.length && shown(point));
}

function filtered() {
  showFiltered();
  rewriteAddress();
  drawAll();
}

function toggle(pill) {
  const key = pill.dataset.key;
  if (!hidden.delete(key)) hidden.add(key);
  filtered();
}

function showAll() {
  hidden.clear();
  filtered();
}
