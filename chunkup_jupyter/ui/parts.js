// The live view: title, bar, phases, the map of parts on a canvas, and buttons.
// Everything shown comes from the traits `heads` and `snap` and from messages that
// bring them up to date; hovering and reloading ask the kernel nothing.
// assets.py puts dom.js and map.js in front: a widget is one module.

const PHASES = ["Preparing", "Uploading", "Completing", "Processing", "Ready"];
const OVER = ["completed", "failed", "stopped", "cancelled"];
const BUSY = 700; // ms without an answer to a click
const SILENT = 6000; // ms without a message while an upload runs

function render({ model, el: root }) {
  root.classList.add("chunkup");
  const list = el("div", "cu-files"), card = el("div", "cu-card");
  list.setAttribute("role", "listbox"); list.setAttribute("aria-label", "Uploads");
  const say = el("div", "cu-hidden"); say.setAttribute("aria-live", "polite"); say.setAttribute("role", "status");
  const title = el("div", "cu-line cu-title"), what = el("span", "cu-what"), name = el("b", "cu-name"), dest = el("span", "cu-dim"), pill = el("span", "cu-pill", "sandbox"), word = el("b", "cu-word");
  what.append(name, dest, pill); title.append(what, word);
  const bar = el("div", "cu-bar"), old = el("i", "cu-old"), held = el("i", "cu-held"), moving = el("i");
  bar.setAttribute("role", "progressbar"); bar.append(old, held, moving);
  const facts = el("div", "cu-line cu-facts"), amount = el("span"), counts = el("span", "cu-dim"); facts.append(amount, counts);
  const course = el("div", "cu-line cu-facts"), steps = el("ol", "cu-steps"), clock = el("span", "cu-dim"); course.append(steps, clock);
  for (const phase of PHASES) { const step = el("li"); step.append(el("span", "cu-mark", "○"), phase); steps.append(step); }
  const details = el("div", "cu-details"), canvas = el("canvas", "cu-map"), tip = el("div", "cu-tip"), legend = el("div", "cu-legend");
  canvas.tabIndex = 0; canvas.setAttribute("role", "img"); tip.hidden = true;
  details.append(canvas, legend);
  const foot = el("div", "cu-line cu-foot"), buttons = el("div", "cu-buttons"), note = el("span", "cu-note"); foot.append(buttons, note);
  card.append(title, bar, facts, course, details, foot);
  root.append(list, card, tip, say);

  let heads = [], levels = new Uint8Array(0), chosen = -1, shown = 0, base = 0, cursor = -1, pointed = -1;
  let open = true, clicks = 0, heard = Date.now(), spoken = 0, lastSaid = "", gone = false, sure = 0, ink = {}, grid = gridOf(1, 300);
  const waiting = new Map(), drawn = new Map();

  const button = (label, does) => { const b = el("button", "cu-button", label); b.type = "button"; b.onclick = does; buttons.append(b); return b; };
  const send = (what) => {
    const click = ++clicks;
    try { model.send({ do: what, file: shown, click }); } catch { gone = true; return texts(); }
    waiting.set(click, Date.now()); setTimeout(texts, BUSY + 20);
  };
  const pause = button("Pause", () => send(heads[shown]?.can.includes("resume") ? "resume" : "pause"));
  const cancel = button("Cancel", () => {
    // Cancelling throws away what was sent, so it takes two clicks.
    if (Date.now() - sure < 4000) { sure = 0; send("cancel"); } else { sure = Date.now(); setTimeout(texts, 4050); }
    texts();
  });
  const retry = button("Retry", () => send("retry"));
  const copy = button("Copy id", async () => {
    const done = await copied(heads[shown]?.id ?? ""); put(copy, done ? "Copied" : "Copy failed"); setTimeout(() => put(copy, "Copy id"), 1500);
  });
  const more = button("Details", () => { open = !open; details.hidden = !open; more.setAttribute("aria-expanded", String(open)); if (open) all(); });
  more.setAttribute("aria-expanded", "true");
  cancel.onblur = () => { sure = 0; texts(); };

  function colours() {
    const style = getComputedStyle(root), at = (name) => style.getPropertyValue(name).trim();
    ink = { go: at("--cu-go"), done: at("--cu-done"), warn: at("--cu-warn"), bad: at("--cu-bad"), faint: at("--cu-faint"), ground: at("--cu-ground"), text: at("--cu-text") };
    all();
  }
  function choose(index) { chosen = index; pick(); all(); texts(); }
  function pick() {
    const live = heads.findIndex((h) => h.state !== "preparing" && !OVER.includes(h.state));
    const next = chosen >= 0 && chosen < heads.length ? chosen : Math.max(0, live >= 0 ? live : Math.min(shown, heads.length - 1));
    const start = heads.slice(0, next).reduce((n, h) => n + h.n, 0);
    const moved = next !== shown || start !== base; shown = next; base = start;
    return moved;
  }

  function texts() {
    const head = heads[shown];
    root.hidden = !head;
    if (!head) return;
    const over = OVER.includes(head.state), now = Date.now();
    root.dataset.state = head.state;
    put(name, head.name); put(dest, ` → ${head.dest}`); pill.hidden = !head.sandbox; put(word, head.word);
    what.title = `${head.name} → ${head.dest}`; amount.title = head.exact;
    old.style.width = `${100 * head.reused}%`; held.style.width = `${100 * (head.done - head.reused)}%`;
    moving.style.width = `${100 * Math.max(0, head.sent - head.done)}%`;
    bar.setAttribute("aria-valuenow", String(head.percent)); bar.setAttribute("aria-label", `Upload of ${head.name}`);
    put(amount, [head.bytes, ...head.speed].join(" · ")); put(counts, head.counts); put(clock, head.closes);
    [...steps.children].forEach((step, i) => {
      const state = i < head.phase || head.state === "completed" ? "past" : i > head.phase ? "next" : over ? "bad" : head.state === "paused" ? "wait" : "now";
      if (step.dataset.is === state) return;
      step.dataset.is = state; put(step.firstChild, { past: "✓", now: "▶", wait: "‖", bad: "✕", next: "○" }[state]);
      if (i === head.phase) step.setAttribute("aria-current", "step"); else step.removeAttribute("aria-current");
    });
    const can = (what) => head.can.includes(what), slow = [...waiting.values()].some((at) => now - at >= BUSY);
    pause.hidden = over; pause.disabled = !can("pause") && !can("resume"); put(pause, can("resume") ? "Resume" : "Pause");
    cancel.hidden = over; put(cancel, now - sure < 4000 ? "Really discard?" : "Cancel"); cancel.classList.toggle("cu-bad", now - sure < 4000);
    retry.hidden = !can("retry"); copy.hidden = !can("copy");
    const live = heads.some((h) => !OVER.includes(h.state));
    const silent = live && now - heard > SILENT ? `No news from the kernel for ${Math.round((now - heard) / 1000)} s` : "";
    const busy = slow ? "The kernel is busy: it sees the click when the cell ends. Kernel › Interrupt stops now" : "";
    const text = gone ? "The kernel is gone: run the cell again to go on" : busy || silent || head.note || head.id || head.hint;
    put(note, text); note.title = text; note.classList.toggle("cu-alarm", !!(gone || busy || silent || head.state === "failed"));
    files(); tooltip();
    if (head.state !== lastSaid || now - spoken > 15000 || busy) { lastSaid = head.state; spoken = now; put(say, busy || sentence(head)); }
  }

  function files() {
    list.hidden = heads.length < 2;
    if (list.hidden) return;
    while (list.children.length > heads.length) list.lastChild.remove();
    heads.forEach((head, i) => {
      let row = list.children[i];
      if (!row) {
        row = el("button", "cu-file"); row.type = "button"; row.setAttribute("role", "option"); row.onclick = () => choose(i);
        row.append(el("span", "cu-mark"), el("span", "cu-name"), el("span", "cu-mini"), el("span", "cu-word")); row.children[2].append(el("i")); list.append(row);
      }
      row.dataset.state = head.state; row.title = head.note || `${head.name} → ${head.dest}`; row.setAttribute("aria-selected", String(i === shown));
      put(row.children[0], { completed: "✓", failed: "✕", cancelled: "–", stopped: "–", paused: "‖", preparing: "○" }[head.state] ?? "▶");
      put(row.children[1], head.name); row.children[2].firstChild.style.width = `${head.percent}%`; put(row.children[3], head.state === "completed" ? head.id || head.word : head.word);
    });
  }

  const box = (cell) => {
    const col = cell % grid.cols, row = Math.floor(cell / grid.cols);
    const gap = grid.dy > 10 ? 2 : 1, x = Math.round(col * grid.dx);
    return [x, row * grid.dy, Math.round((col + 1) * grid.dx) - x - gap, grid.dy - gap];
  };
  function cellAt(cell) {
    const from = cell * grid.per, to = Math.min(from + grid.per, heads[shown].n);
    const [kind, fill] = sum(levels, base + from, base + to), c = canvas.getContext("2d"), [x, y, w, h] = box(cell);
    paint(c, x, y, w, h, kind, fill, ink);
    if (w >= 30 && h >= 16) {
      c.font = "11px " + getComputedStyle(root).fontFamily; c.textAlign = "center"; c.textBaseline = "middle";
      c.fillStyle = kind === "done" || fill > 0.6 ? ink.ground : ink.text;
      if (["queued", "sending", "done"].includes(kind)) c.fillText(String(from + 1), x + w / 2, y + h / 2 + 0.5);
    }
    if (cell === cursor && document.activeElement === canvas) { c.strokeStyle = ink.text; c.lineWidth = 2; c.strokeRect(x + 1, y + 1, w - 2, h - 2); }
  }
  let frame = 0; const dirty = new Set();
  function soon(cells) {
    for (const cell of cells) dirty.add(cell);
    frame ||= requestAnimationFrame(() => { frame = 0; if (heads[shown]) for (const cell of dirty) if (cell < grid.cells) cellAt(cell); dirty.clear(); counted(); });
  }
  function all() {
    const head = heads[shown];
    if (!head || !details.clientWidth) return;
    if (!ink.go) return colours(); // not on a page yet
    const scale = window.devicePixelRatio || 1; grid = gridOf(head.n, details.clientWidth);
    const w = Math.round(grid.cols * grid.dx), h = grid.rows * grid.dy;
    canvas.width = Math.round(w * scale); canvas.height = Math.round(h * scale); canvas.style.width = w + "px"; canvas.style.height = h + "px";
    canvas.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
    canvas.setAttribute("aria-label", `Map of ${head.n} parts of ${head.name}; arrow keys walk through it`);
    soon(Array(grid.cells).keys());
  }
  function counted() {
    const head = heads[shown], tally = {};
    if (!head) return;
    for (let i = base; i < base + head.n && i < levels.length; i++) { const kind = kindOf(levels[i]); tally[kind] = (tally[kind] ?? 0) + 1; }
    for (const kind of KINDS) {
      let item = drawn.get(kind);
      if (!item) {
        item = el("span"); item.append(el("canvas"), el("span")); legend.append(item); drawn.set(kind, item);
        item.firstChild.width = item.firstChild.height = 24;
      }
      const c = item.firstChild.getContext("2d"); c.setTransform(2, 0, 0, 2, 0, 0);
      if (item.dataset.ink !== ink.go + ink.ground) { item.dataset.ink = ink.go + ink.ground; paint(c, 0, 0, 11, 11, kind, 0.5, ink); }
      item.classList.toggle("cu-none", !tally[kind]);
      put(item.lastChild, `${kind} ${(tally[kind] ?? 0).toLocaleString("en")}`);
    }
  }

  function tooltip() {
    const cell = pointed >= 0 ? pointed : cursor, head = heads[shown];
    tip.hidden = !(head && open && cell >= 0 && cell < grid.cells);
    if (tip.hidden) return;
    const from = cell * grid.per, to = Math.min(from + grid.per, head.n);
    let lines = about(head, from, levels[base + from]);
    if (grid.per > 1) {
      lines = [`Parts ${(from + 1).toLocaleString("en")} to ${to.toLocaleString("en")} of ${head.n.toLocaleString("en")}`];
      for (let i = from; i < to; i++) { const [first, , sent, tried] = about(head, i, levels[base + i]); lines.push([first.replace(/ of [\d,]+:/, ":"), kindOf(levels[base + i]) === "sending" ? sent : "", tried].filter(Boolean).join(", ")); }
      if (lines.length > 13) lines = [...lines.slice(0, 12), `and ${lines.length - 12} more`];
    }
    put(tip, lines.join("\n"));
    const [x, y, w, h] = box(cell), map = canvas.getBoundingClientRect(), at = root.getBoundingClientRect();
    const left = map.left - at.left + x + w / 2 - tip.offsetWidth / 2, top = map.top - at.top + y;
    tip.style.left = Math.max(0, Math.min(root.clientWidth - tip.offsetWidth, left)) + "px";
    tip.style.top = (map.top + y - tip.offsetHeight - 6 > 0 ? top - tip.offsetHeight - 6 : top + h + 6) + "px";
  }
  canvas.onmousemove = (e) => {
    const col = Math.floor((e.offsetX + 0.5) / grid.dx), cell = Math.floor(e.offsetY / grid.dy) * grid.cols + col;
    pointed = col < grid.cols && cell < grid.cells ? cell : -1; tooltip();
  };
  canvas.onmouseleave = () => { pointed = -1; tooltip(); };
  canvas.onfocus = () => { cursor = Math.max(0, cursor); soon([cursor]); tooltip(); };
  canvas.onblur = () => { const was = cursor; cursor = -1; soon([was]); tooltip(); };
  canvas.onkeydown = (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.cols, ArrowDown: grid.cols, Home: -1e9, End: 1e9 }[e.key];
    if (e.key === "Escape") return canvas.blur();
    if (!step) return;
    e.preventDefault(); e.stopPropagation();
    const was = cursor; cursor = Math.max(0, Math.min(grid.cells - 1, cursor + step)); soon([was, cursor]); tooltip(); put(say, tip.textContent);
  };

  function take(newHeads, cells) {
    heads = newHeads; heard = Date.now();
    const moved = pick();
    if (moved || !cells || (heads[shown] && gridOf(heads[shown].n, details.clientWidth).cells !== grid.cells)) all();
    else { const n = heads[shown]?.n ?? 0; soon(cells.filter((i) => i >= base && i < base + n).map((i) => Math.floor((i - base) / grid.per))); }
    texts();
  }
  /** Take a whole row of levels and return what differs, or null when its length does. */
  function whole(view) {
    const next = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (next.length !== levels.length) { levels = next.slice(); return null; }
    const changed = [];
    for (let i = 0; i < next.length; i++) if (next[i] !== levels[i]) { levels[i] = next[i]; changed.push(i); }
    return changed;
  }
  function restore() { const view = model.get("snap"); take(model.get("heads") ?? [], whole(view?.byteLength === undefined ? new DataView(new ArrayBuffer(0)) : view)); }
  function message(msg, buffers) {
    for (const click of msg.acks ?? []) waiting.delete(click);
    if (msg.t === "delta") take(msg.heads, apply(levels, buffers[0]));
    else if (msg.t === "all") take(msg.heads, whole(buffers[0]));
    else texts();
  }
  model.on("msg:custom", message);
  model.on("change:snap", restore);
  model.on("change:heads", restore);
  const sized = new ResizeObserver(() => all()), themed = new MutationObserver(colours);
  sized.observe(details); themed.observe(document.body, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-name", "data-jp-theme-light", "data-vscode-theme-kind"] });
  const beat = setInterval(texts, 1000);
  restore(); colours();
  try { model.send({ do: "hello" }); } catch { /* no kernel */ }
  return () => { clearInterval(beat); sized.disconnect(); themed.disconnect(); model.off("msg:custom", message); model.off("change:snap", restore); model.off("change:heads", restore); };
}

export default { render };
