// Numbers as people read them: the same units and figures as archlab's screens.
const decimals = x => x >= 1000 ? 0 : x >= 100 ? 1 : 2;
const fixed = (x, places) => x.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
const scaled = (x, steps, last) => {
  const found = steps.find(([, size]) => x >= size);
  return found ? `${fixed(x / found[1], decimals(x / found[1]))} ${found[0]}` : last(x);
};
const BYTES = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
const COUNTS = [["T", 1e12], ["B", 1e9], ["M", 1e6]];
const FLOPS = [["EFLOP", 1e18], ["PFLOP", 1e15], ["TFLOP", 1e12], ["GFLOP", 1e9], ["MFLOP", 1e6]];
const SECONDS = [["s", 1], ["ms", 1e-3], ["us", 1e-6]];
const unknown = x => x === null || x === undefined || Number.isNaN(x);
const say = {
  bytes: x => unknown(x) ? "–" : scaled(x, BYTES, y => `${fixed(y, 0)} B`),
  count: x => unknown(x) ? "–" : scaled(x, COUNTS, y => fixed(y, 0)),
  flop: x => unknown(x) ? "–" : scaled(x, FLOPS, y => `${fixed(y, 0)} FLOP`),
  seconds: x => unknown(x) ? "–" : scaled(x, SECONDS, y => `${fixed(y * 1e9, 0)} ns`),
  rate: x => unknown(x) ? "–" : `${fixed(x, x >= 100 ? 0 : 1)} tokens/s`,
  tokens: x => unknown(x) ? "–" : x >= 2 ** 20 && x % 2 ** 20 === 0 ? `${x / 2 ** 20}M` : x >= 1024 && x % 1024 === 0 ? `${x / 1024}k` : fixed(x, 0),
  plain: x => unknown(x) ? "–" : fixed(x, 0),
};

// '38 % less', '2.4 times', 'the same'.
function change(value, base) {
  if (unknown(value) || unknown(base)) return "–";
  if (value === base) return "the same";
  if (!base) return "new";
  if (!value) return "none left";
  const ratio = value / base;
  if (ratio >= 2) return `${fixed(ratio, ratio >= 100 ? 0 : 1)} times as much`;
  if (ratio < 0.001) return "over 99.9 % less";
  const percent = Math.abs(ratio - 1) * 100;
  const said = percent < 0.1 ? "under 0.1" : fixed(percent, percent < 10 ? 1 : 0);
  return `${said} % ${ratio > 1 ? "more" : "less"}`;
}

// 8192, 8k or 1M as a number; NaN of anything else.
function readCount(text) {
  const found = /^([\d.,_]+)\s*([kKM]?)$/.exec(text.trim());
  return found ? Number(found[1].replace(/[,_]/g, "")) * ({ k: 1024, K: 1024, M: 2 ** 20 }[found[2]] || 1) : NaN;
}

function element(tag, className, ...inside) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}
