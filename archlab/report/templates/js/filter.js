// One filter for pictures, tables and strips. It lives in the address: #section?hide=a,b
const hidden = new Set();
const pills = all("#pills .pill");
const facetKeys = pills.map(pill => pill.dataset.key);

const shown = point => !data.points[point].facets.some(facet => hidden.has(facetKeys[facet]));

function readHash() {
  const [section, query] = location.hash.slice(1).split("?");
  const names = (new URLSearchParams(query || "").get("hide") || "").split("~").filter(Boolean);
  hidden.clear();
  names.filter(name => facetKeys.includes(name)).forEach(name => hidden.add(name));
  return section;
}

function writeHash(section) {
  const query = hidden.size ? "?hide=" + Array.from(hidden).map(encodeURIComponent).join("~") : "";
  const address = (section || "") + query;
  history.replaceState(null, "", address ? "#" + address : location.pathname + location.search);
}

const hashSection = () => location.hash.slice(1).split("?")[0];

function showFiltered() {
  pills.forEach(pill => pill.setAttribute("aria-pressed", String(!hidden.has(pill.dataset.key))));
  all("[data-point]").forEach(row => { row.hidden = !shown(+row.dataset.point); });
  all(".strip").forEach(strip => { strip.hidden = !strip.dataset.points.split(" ").some(p => shown(+p)); });
  one("#show-all").hidden = hidden.size === 0;
  one("#all-hidden").hidden = data.points.some(({ facets }, point) => facets.length && shown(point));
}

function filtered() {
  showFiltered();
  writeHash(hashSection());
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
