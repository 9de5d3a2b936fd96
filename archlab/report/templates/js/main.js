// Listeners, then the pictures; body[data-ready] says that the page can be used, and what is in the window is drawn.
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) { point(event.target); return follow(event); }
  if (button.matches(".pill")) toggle(button);
  else if (button.matches("#show-all, #all-hidden button")) showAll();
  else if (button.matches("#theme")) switchTheme();
  else if (button.matches(".switch button")) press(button);
  else if (button.matches("thead button")) turnSort(button.closest("th"));
  else if (button.dataset.csv) downloadTable(button.dataset.csv, "csv");
  else if (button.dataset.json) downloadTable(button.dataset.json, "json");
  else if (button.dataset.raw) downloadRaw(button.dataset.raw);
});
document.addEventListener("pointerover", event => { point(event.target); pointedAt(event.target); });
document.addEventListener("change", event => { if (event.target.matches(".switch select")) redrawCard(event.target); });
addEventListener("hashchange", () => { const section = readAddress(); showFiltered(); drawAll(); fillAll(); goTo(section); });
addEventListener("scroll", () => { if (waiting.size) drawNear(); }, { passive: true });
let lastWidth = root.clientWidth;
addEventListener("resize", later(120, () => {
  if (root.clientWidth === lastWidth) return;
  lastWidth = root.clientWidth;
  drawAll();
}));
const printing = on => { root.classList.toggle("printing", on); drawAll(); };
addEventListener("beforeprint", () => printing(true));
addEventListener("afterprint", () => printing(false));

async function begin() {
  const section = readAddress();
  showFiltered();
  watchSections();
  try {
    await Promise.all([loadPlotly(), loadFigures()]);
    drawAll();
    fillAll();
  } catch (error) {
    boxes.forEach(box => fallBack(box, "The pictures cannot be drawn here; the numbers are in the table below."));
    waiting.clear();
  }
  goTo(section);
  drawNear(0);
  document.body.dataset.ready = "1";
  document.body.dataset.ms = Math.round(performance.now());
}
begin();
