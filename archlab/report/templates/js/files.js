// Files that a reader saves: their names, and rows as CSV.
const quoted = value => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
};
const csv = lines => lines.map(line => line.map(quoted).join(",")).join("\n") + "\n";

function download(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = text => text.replace(/[^\w.-]+/g, "_").slice(0, 80) || "run";
