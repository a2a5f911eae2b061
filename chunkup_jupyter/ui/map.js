// What a map of parts shows: kinds of parts, the grid, hover texts, and how a cell is painted.
// No page is needed here, so all of it is tested without one.

/** @typedef {"queued"|"reading"|"sending"|"verifying"|"retrying"|"failed"|"reused"|"done"} Kind */
/** @typedef {{per: number, cells: number, cols: number, rows: number, dx: number, dy: number}} Grid */

export const KINDS = ["queued", "reading", "sending", "verifying", "retrying", "failed", "reused", "done"];
const WORDS = { reused: "sent by an earlier run", retrying: "waiting to be sent again" };
const URGENT = ["failed", "retrying", "sending", "verifying", "reading"];
const TALL = 154; // px; the map never grows beyond

/** @param {number} level @returns {Kind} */
export function kindOf(level) {
  if (level === 0) return "queued";
  if (level === 1) return "reading";
  if (level < 240) return "sending";
  if (level < 250) return "verifying";
  if (level < 253) return "retrying";
  return level === 253 ? "failed" : level === 254 ? "reused" : "done";
}

/** The share of a part that has left, 0 to 1. @param {number} level */
export function fillOf(level) {
  if (level < 2) return 0;
  if (level < 240) return Math.min(1, (level - 1) / 200);
  return level === 250 || level === 253 ? 0 : 1;
}

/** Write deltas into levels; return the indexes that changed. @param {Uint8Array} levels @param {DataView} view */
export function apply(levels, view) {
  const changed = [];
  for (let at = 0; at + 4 <= view.byteLength; at += 4) {
    const word = view.getUint32(at, true), index = word >>> 8, level = word & 255;
    if (index < levels.length && levels[index] !== level) {
      levels[index] = level;
      changed.push(index);
    }
  }
  return changed;
}

/** How n parts are laid out in `width` px: cells as large as fit; a cell may stand for several parts.
 * @param {number} n @param {number} width @returns {Grid} */
export function gridOf(n, width) {
  const w = Math.max(120, Math.floor(width));
  if (n * 24 <= w) return { per: 1, cells: n, cols: n, rows: 1, dx: Math.min(64, w / n), dy: 22 };
  for (let d = 22; d >= 8; d--) {
    const cols = Math.floor(w / d), rows = Math.ceil(n / cols);
    if (rows * d <= TALL) return { per: 1, cells: n, cols, rows, dx: d < 12 ? d : w / cols, dy: d };
  }
  const cols = Math.floor(w / 8), per = Math.ceil(n / (cols * Math.floor(TALL / 8)));
  const cells = Math.ceil(n / per);
  return { per, cells, cols, rows: Math.ceil(cells / cols), dx: 8, dy: 8 };
}

/** What a cell of several parts shows: its most urgent kind, and how full it is.
 * @param {ArrayLike<number>} levels @param {number} from @param {number} to @returns {[Kind, number]} */
export function sum(levels, from, to) {
  let fill = 0, best = 9, same = true;
  const first = kindOf(levels[from]);
  for (let i = from; i < to; i++) {
    const kind = kindOf(levels[i]), rank = URGENT.indexOf(kind);
    fill += fillOf(levels[i]);
    if (rank >= 0 && rank < best) best = rank;
    if (kind !== first) same = false;
  }
  fill /= Math.max(1, to - from);
  if (same) return [first, fill];
  // Urgent kinds win; a mixture of parts done and queued is a cell half full.
  return [best < 2 ? /** @type {Kind} */ (URGENT[best]) : fill >= 1 ? "done" : "sending", fill];
}

/** @param {number} n bytes */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (n >= 999.5 && power < 4) { n /= 1000; power++; }
  return (power === 0 ? String(Math.floor(n)) : n >= 99.95 ? n.toFixed(0) : String(Number(n.toPrecision(3)))) + " " + units[power];
}

/** Lines about part `index` (from 0): number, state, range, bytes, attempts, last error.
 * @param {any} head @param {number} index @param {number} level */
export function about(head, index, level) {
  const start = index * head.part, size = Math.max(0, Math.min(head.part, head.size - start));
  const kind = kindOf(level), number = index + 1;
  const sent = head.flight?.[number] ?? Math.round(fillOf(level) * size);
  const lines = [`Part ${number.toLocaleString("en")} of ${head.n.toLocaleString("en")}: ${WORDS[kind] ?? kind}`];
  lines.push(`bytes ${start.toLocaleString("en")} to ${Math.max(start, start + size - 1).toLocaleString("en")}`);
  lines.push(kind === "sending" ? `${bytes(sent)} of ${bytes(size)} sent` : bytes(size));
  const tries = head.tries?.[number];
  if (tries) lines.push(`attempt ${tries[0] + 1}, after: ${tries[1]}`);
  return lines;
}

/** The sentence for a screen reader. @param {any} head */
export function sentence(head) {
  const facts = [`${head.name}: ${head.word}`, head.counts];
  if (head.speed[1]) facts.push(head.speed[1]);
  if (head.note) facts.push(head.note);
  return facts.join(", ");
}

/** Paint one cell. The kinds differ in shape, not only in colour.
 * @param {CanvasRenderingContext2D} c @param {Kind} kind @param {number} fill @param {Record<string, string>} ink */
export function paint(c, x, y, w, h, kind, fill, ink, hole = ink.ground) {
  const line = Math.max(1, Math.min(2, Math.min(w, h) / 9));
  const colour = { failed: ink.bad, retrying: ink.warn, done: ink.done, reused: ink.done }[kind] ?? ink.go;
  c.clearRect(x, y, w, h);
  c.fillStyle = kind === "queued" ? ink.faint : colour;
  c.strokeStyle = colour;
  c.lineWidth = line;
  const frame = (t = line) => { c.fillRect(x, y, w, h); c.fillStyle = hole; c.fillRect(x + t, y + t, w - 2 * t, h - 2 * t); c.fillStyle = colour; };
  const draw = (...points) => { c.beginPath(); points.forEach(([a, b], i) => (i ? c.lineTo(x + a, y + b) : c.moveTo(x + a, y + b))); };
  if (kind === "queued") return frame(1);
  if (kind === "done") return c.fillRect(x, y, w, h);
  if (kind === "reading") { frame(1); const d = Math.max(2, Math.min(w, h) / 3); return c.fillRect(x + (w - d) / 2, y + (h - d) / 2, d, d); }
  if (kind === "sending") {
    frame(1);
    if (w > 1.6 * h) return c.fillRect(x, y, Math.max(2, w * fill), h);
    const up = Math.max(1, Math.round(h * fill));
    return c.fillRect(x, y + h - up, w, up);
  }
  if (kind === "reused") { // a solid part with a window
    c.fillRect(x, y, w, h); c.fillStyle = hole;
    const d = Math.max(2, Math.round(Math.min(w, h) / 3));
    return c.fillRect(x + Math.floor((w - d) / 2), y + Math.floor((h - d) / 2), d, d);
  }
  if (kind === "retrying") { frame(); draw([0, 0], [w, h], [0, h]); c.closePath(); return c.fill(); }
  c.save(); c.beginPath(); c.rect(x, y, w, h); c.clip();
  if (kind === "verifying") {
    frame(1);
    const gap = Math.max(3, Math.min(w, h) / 3.5);
    for (let a = gap - h; a < w; a += gap) { draw([a, h], [a + h, 0]); c.stroke(); }
  } else { // failed: a cross
    frame(); const d = Math.min(w, h), l = (w - d) / 2; c.lineWidth = Math.max(1.3, line);
    draw([l, 0], [l + d, h]); c.stroke(); draw([l, h], [l + d, 0]); c.stroke();
  }
  c.restore();
}
