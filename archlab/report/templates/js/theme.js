// Light and dark: the style sheet has both; a picture's colours are exchanged for their twins.
const root = document.documentElement;
const isPrinting = () => root.classList.contains("printing");
const isDark = () => root.dataset.theme === "dark" && !isPrinting();

function themed(value) {
  if (typeof value === "string") return data.twins[value.toLowerCase()] || value;
  if (Array.isArray(value)) return value.map(themed);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
  return value;
}

function nameTheme() {
  one("#theme").textContent = isDark() ? "Light" : "Dark";
}

function switchTheme() {
  const next = isDark() ? "light" : "dark";
  root.dataset.theme = next;
  try { localStorage.setItem("archlab-theme", next); } catch (e) { /* a file may have no storage */ }
  themeInAddress = next;
  rewriteAddress();
  nameTheme();
  drawAll();
}
