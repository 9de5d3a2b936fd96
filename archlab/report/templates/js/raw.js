// The run's own tables: every column and every row, not what the filter shows.
async function downloadRaw(kind) {
  const raw = JSON.parse(await inflated("#raw"));
  const name = fileName(raw.run.name);
  if (kind === "json") return download(name + ".json", "application/json", JSON.stringify(raw, null, 1));
  const columns = Object.keys(raw.points);
  const lines = raw.points[columns[0]].map((_, i) => columns.map(column => raw.points[column][i]));
  return download(name + "-points.csv", "text/csv", csv([columns, ...lines]));
}

function downloadTable(id, kind) {
  const table = document.getElementById(id), [heads, ...rows] = tableLines(table), name = fileName(table.dataset.name);
  if (kind === "csv") return download(name + ".csv", "text/csv", csv([heads, ...rows]));
  const records = rows.map(row => Object.fromEntries(heads.map((head, i) => [head, row[i]])));
  download(name + ".json", "application/json", JSON.stringify(records, null, 1));
}
