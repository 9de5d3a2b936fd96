// Texts inside pictures: how wide they are in the reader's font, cut and broken where they are long.
const ruler = document.createElement("canvas").getContext("2d");

const escaped = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function widthOf(text, size, bold) {
  ruler.font = (bold ? "bold " : "") + size + "px " + getComputedStyle(document.body).fontFamily;
  return ruler.measureText(text).width;
}

// A name on one line, or broken after its first part or between two words, each line at most so many characters.
function linesOf(text, most) {
  const cut = part => (part.length > most ? part.slice(0, most - 1) + "…" : part);
  if (text.length <= most) return [text];
  const [first, ...rest] = text.split(" · ");
  if (rest.length) return [cut(first), cut(rest.join(" · "))];
  const at = text.lastIndexOf(" ", most);
  return at > 0 ? [text.slice(0, at), cut(text.slice(at + 1))] : [cut(text)];
}

function marked(lines, bold) {
  const text = lines.map(escaped).join("<br>");
  return bold ? "<b>" + text + "</b>" : text;
}

// The widest of some lines, in px.
const widest = (lines, size, bold) => Math.max(0, ...lines.map(line => widthOf(line, size, bold)));
