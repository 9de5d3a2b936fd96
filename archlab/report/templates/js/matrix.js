// Tables of verdicts: the cells of the chosen state, and the numbers of the one that is pointed at.
function cellsOf(table) {
  const states = pictures && pictures.matrices[table.dataset.matrix];
  return states ? states[chosenIn(table.closest(".card")).join("/")] : null;
}

function fill(table) {
  const cells = cellsOf(table);
  if (!cells) return;
  all("tbody tr", table).forEach(row => all("td", row).forEach((cell, i) => {
    const [kind, first, second] = cells[row.dataset.point][i];
    cell.className = kind + (cell.classList.contains("at") ? " at" : "");
    one("b", cell).textContent = first;
    one("small", cell).textContent = second;
  }));
  const at = one("td.at", table);
  if (at) tell(at);
}

const fillAll = () => all("table[data-matrix]").forEach(fill);

function point(target) {
  const cell = target.closest && target.closest("table[data-matrix] td");
  if (!cell) return;
  all("td.at", cell.closest("table")).forEach(other => other.classList.remove("at"));
  cell.classList.add("at");
  tell(cell);
}

function tell(cell) {
  const table = cell.closest("table"), cells = cellsOf(table), row = cell.parentElement;
  if (cells) one(`[data-detail="${table.dataset.matrix}"]`).textContent = cells[row.dataset.point][cell.cellIndex - 1][3];
}
