// The contents mark the section that is being read; following one keeps what the reader chose.
const links = all(".contents a");

function mark(id) {
  links.forEach(link => {
    if (link.hash === "#" + id) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  });
}

function watchSections() {
  const sections = all("main > section");
  const current = () => {
    const above = sections.filter(section => section.getBoundingClientRect().top < 160);
    const bottom = innerHeight + scrollY >= document.documentElement.scrollHeight - 4;
    const section = bottom ? sections[sections.length - 1] : above[above.length - 1] || sections[0];
    if (section) mark(section.id);
  };
  addEventListener("scroll", later(60, current), { passive: true });
  current();
}

function goTo(id) {
  const target = id && document.getElementById(id);
  if (target) target.scrollIntoView({ block: "start", behavior: "instant" });
}

function follow(event) {
  const link = event.target.closest('a[href^="#"]');
  if (!link || link.classList.contains("skip")) return;
  event.preventDefault();
  const id = link.hash.slice(1);
  writeAddress(id);
  goTo(id);
}
