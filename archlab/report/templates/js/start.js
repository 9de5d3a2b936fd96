// What the other files share: the data of the page, and small tools.
const one = (selector, root) => (root || document).querySelector(selector);
const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));
const data = JSON.parse(one("#data").textContent);

function later(wait, run) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(run, wait); };
}

// The text that lies gzipped and base64 in a script element.
async function inflated(id) {
  const packed = Uint8Array.from(atob(one(id).textContent.trim()), c => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
