// The index: one subject and one model, kept in the address: #?subject=a&model=b&theme=dark
const studies = all(".study[data-models]"), subjects = all("#subjects .pill"), menu = one("#model");
let themeInAddress = null;
const drawAll = () => {}; // its pictures are drawn in the colours of the style sheet
const subjectNow = () => subjects.find(pill => pill.getAttribute("aria-pressed") === "true").dataset.subject;

function pick(subject, model) {
  const known = subjects.some(pill => pill.dataset.subject === subject) ? subject : "";
  subjects.forEach(pill => pill.setAttribute("aria-pressed", String(pill.dataset.subject === known)));
  menu.value = Array.from(menu.options).some(option => option.value === model) ? model : "";
  showPicked();
}

function showPicked() {
  const subject = subjectNow(), model = menu.value;
  studies.forEach(study => {
    const { subject: own, models } = study.dataset;
    study.hidden = !study.closest("[data-always]") && ((subject && own !== subject) || (model && !JSON.parse(models).includes(model)));
  });
  all("main section:not([data-always])").forEach(section => { section.hidden = !one(".study:not([hidden])", section); });
  one("#none").hidden = studies.some(study => !study.hidden && !study.closest("[data-always]"));
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1).split("?")[1] || "");
  themeInAddress = ["dark", "light"].find(theme => theme === said.get("theme")) || null;
  if (themeInAddress) root.dataset.theme = themeInAddress;
  nameTheme();
  pick(said.get("subject") || "", said.get("model") || "");
}

function rewriteAddress() {
  const chosen = { subject: subjectNow(), model: menu.value, theme: themeInAddress };
  const entries = Object.entries(chosen).filter(([, value]) => value);
  const query = entries.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  history.replaceState(null, "", query ? "#?" + query : location.pathname + location.search);
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches("#theme")) return switchTheme();
  if (button.matches(".pill")) pick(button.dataset.subject, menu.value);
  if (button.matches("#none button")) pick("", "");
  rewriteAddress();
});
menu.addEventListener("change", () => { showPicked(); rewriteAddress(); });
addEventListener("hashchange", readAddress);
addEventListener("beforeprint", () => root.classList.add("printing"));
addEventListener("afterprint", () => root.classList.remove("printing"));
readAddress();
document.body.dataset.ready = "1";
