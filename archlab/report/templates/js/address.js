// What the reader chose lives in the address: #section?hide=a&hide=b&show=picture.0:option&sort=table:column:down&theme=dark
const chosenOf = control => { const at = one('button[aria-pressed="true"], select', control); return at.dataset.option || at.value; };
const nameOf = card => { const drawn = one("[data-fig], [data-matrix]", card); return drawn ? drawn.dataset.fig || drawn.dataset.matrix : card.id; };
const switches = all(".card").flatMap(card => all(".switch", card).map((control, i) => {
  return { name: `${nameOf(card)}.${i}`, control, first: chosenOf(control) };
}));
let themeInAddress = null;

function choose(control, option) {
  const menu = one("select", control), button = all("button", control).find(b => b.dataset.option === option);
  if (menu && Array.from(menu.options).some(o => o.value === option)) menu.value = option;
  if (button) all("button", control).forEach(b => b.setAttribute("aria-pressed", String(b === button)));
}

const halves = (text, at) => [text.slice(0, Math.max(at, 0)), text.slice(at + 1)];

function restoreSort(entries) {
  const wanted = new Map(entries.map(entry => halves(entry, entry.indexOf(":"))));
  all("table[id]").forEach(table => {
    const said = wanted.get(table.id) || "", [key, way] = halves(said, said.lastIndexOf(":"));
    const head = all("th[aria-sort]", table).find(th => th.dataset.key === key);
    if (head) sortBy(head, way === "down"); else unsort(table);
  });
}

// Sets what the address says, and all else to what the page began with. Returns the section.
function readAddress() {
  const [section, query] = location.hash.slice(1).split("?"), said = new URLSearchParams(query || "");
  hideOnly(said.getAll("hide"));
  const shows = new Map(said.getAll("show").map(entry => halves(entry, entry.indexOf(":"))));
  switches.forEach(({ name, control, first }) => { choose(control, first); choose(control, shows.get(name)); });
  restoreSort(said.getAll("sort"));
  themeInAddress = ["dark", "light"].find(theme => theme === said.get("theme")) || null;
  if (themeInAddress) root.dataset.theme = themeInAddress;
  nameTheme();
  return section;
}

function sortsNow() {
  return all("th[aria-sort]:not([aria-sort=none])").map(th => {
    return `${th.closest("table").id}:${th.dataset.key}:${th.getAttribute("aria-sort") === "descending" ? "down" : "up"}`;
  });
}

function writeAddress(section) {
  const turned = switches.filter(({ control, first }) => chosenOf(control) !== first);
  const entries = [
    ...Array.from(hidden, name => ["hide", name]), ...turned.map(({ name, control }) => ["show", `${name}:${chosenOf(control)}`]),
    ...sortsNow().map(sort => ["sort", sort]), ...(themeInAddress ? [["theme", themeInAddress]] : []),
  ];
  const query = entries.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  const address = (section || "") + (query ? "?" + query : "");
  history.replaceState(null, "", address ? "#" + address : location.pathname + location.search);
}

const sectionNow = () => location.hash.slice(1).split("?")[0];
const rewriteAddress = () => writeAddress(sectionNow());
