// Sorting, and a table's own CSV: what is shown, in its order, in base units.
function cellValue(row, column) {
  const cell = row.cells[column], known = cell.dataset.v !== undefined || !column; // an empty data-v: what is shown
  const raw = known ? cell.dataset.v || cell.textContent.trim() : null;
  return raw !== null && raw !== "" && !Number.isNaN(Number(raw)) ? Number(raw) : raw;
}

function compared(a, b) {
  if (a === null || b === null) return (a === null) - (b === null) || 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

const unsorted = new Map(); // table -> its rows as the page came

function unsort(table) {
  if (!unsorted.has(table)) return;
  all("th[aria-sort]", table).forEach(th => th.setAttribute("aria-sort", "none"));
  table.tBodies[0].append(...unsorted.get(table));
}

function turnSort(head) {
  const now = head.getAttribute("aria-sort");
  sortBy(head, now === "none" ? head.classList.contains("number") : now === "ascending");
  rewriteAddress();
}

function sortBy(head, down) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  if (!unsorted.has(table)) unsorted.set(table, Array.from(body.rows));
  all("th[aria-sort]", table).forEach(th => th.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = Array.from(body.rows, row => [cellValue(row, column), row]);
  keyed.sort(([a], [b]) => (a === null || b === null ? compared(a, b) : down ? compared(b, a) : compared(a, b)));
  body.append(...keyed.map(([, row]) => row));
}

function tableLines(table) {
  const heads = all("th[data-key]", table).map(th => th.dataset.key);
  const rows = Array.from(table.tBodies[0].rows).filter(row => !row.hidden);
  const name = row => (row.dataset.point === undefined ? row.cells[0].textContent.trim() : data.points[row.dataset.point].name);
  return [heads, ...rows.map(row => [name(row), ...heads.slice(1).map((_, i) => cellValue(row, i + 1))])];
}
