// What the other files share: the data of the page, and small tools.
const one = (selector, root) => (root || document).querySelector(selector);
const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));
const data = JSON.parse(one("#data").textContent);

function later(wait, run) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(run, wait); };
}

// Bytes from base85 (Python's alphabet, a dot for <): five digits are four bytes, and what is missing at the end counts as the largest.
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;.=>?@^_`{|}~";
function unpacked(text) {
  const worth = new Uint8Array(128);
  for (let i = 0; i < 85; i += 1) worth[DIGITS.charCodeAt(i)] = i;
  const missing = (5 - text.length % 5) % 5, padded = text + "~".repeat(missing);
  const bytes = new DataView(new ArrayBuffer(padded.length / 5 * 4));
  for (let at = 0; at < padded.length; at += 5) {
    let four = 0;
    for (let i = at; i < at + 5; i += 1) four = four * 85 + worth[padded.charCodeAt(i)];
    bytes.setUint32(at / 5 * 4, four);
  }
  return new Uint8Array(bytes.buffer, 0, bytes.byteLength - missing);
}

// The text that lies gzipped in a script element.
async function inflated(id) {
  const packed = unpacked(one(id).textContent.trim());
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
