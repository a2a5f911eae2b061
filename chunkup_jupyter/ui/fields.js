// What the panel is made of: fields with labels, tables, and the lists below the uploads.
// assets.py puts dom.js in front of this file, and this one in front of panel.js.

/** The words on the main button. @param {number} count */
export const uploads = (count) => (count === 0 ? "Upload" : count === 1 ? "Upload 1 file" : `Upload ${count} files`);

/** Add what is new, in order. @param {string[]} list @param {string[]} more */
export const union = (list, more) => [...list, ...more.filter((one, i) => !list.includes(one) && more.indexOf(one) === i)];

/** What a provider's form begins with: what was answered last time, else nothing.
 * @param {any} provider @param {any} remembered */
export function answersOf(provider, remembered) {
  const known = remembered?.providers?.[provider.scheme] ?? {};
  const place = provider.place.map((one, i) => known.place?.[i] ?? "");
  return { place, options: { ...(known.options ?? {}) }, key_env: known.key_env ?? "" };
}

let made = 0;
export const unique = () => `cu${++made}`;

/** @param {string} label @param {(e: MouseEvent) => void} does */
export const button = (label, does, cls = "") => {
  const b = el("button", `cu-button ${cls}`, label);
  b.type = "button"; b.onclick = does;
  return b;
};

/** A control under its label. @param {string} label @param {HTMLElement} input */
export function field(label, input, help = "") {
  const wrap = el("div", input.type === "checkbox" ? "cu-field cu-tick" : "cu-field"), l = el("label", "", label);
  input.id = l.htmlFor = unique();
  wrap.append(l, input);
  if (help) wrap.title = help;
  return wrap;
}

export function text(value, changed, { placeholder = "", password = false } = {}) {
  const input = el("input", "cu-input");
  Object.assign(input, { type: password ? "password" : "text", value, placeholder, spellcheck: false, autocomplete: password ? "new-password" : "off" });
  input.oninput = () => changed(input.value);
  return input;
}

export const suggest = (datalist, values) => datalist.replaceChildren(...values.map((value) => Object.assign(el("option"), { value })));

export function choice(value, options, changed) {
  const select = el("select", "cu-input");
  select.append(...options.map(([v, label]) => Object.assign(el("option", "", label), { value: v })));
  select.value = value; select.onchange = () => changed(select.value);
  return select;
}

/** Rows of label and text. @param {[string, string][]} rows */
export function facts(rows) {
  const table = el("table", "cu-table");
  for (const [label, said] of rows) {
    const tr = el("tr", label === "Warning" ? "cu-warning" : "");
    tr.append(Object.assign(el("th", "", label), { scope: "row" }), el("td", "", said)); table.append(tr);
  }
  return table;
}

/** A button that copies; it says whether it could. @param {() => string} what */
export function copier(label, what) {
  const b = button(label, async () => { put(b, (await copied(what())) ? "Copied" : "Failed"); setTimeout(() => put(b, label), 1500); }, "cu-small");
  return b;
}

/** A button that wants a second click within four seconds. */
export function twice(label, does) {
  let sure = 0;
  const back = () => { sure = 0; put(b, label); b.classList.remove("cu-bad"); };
  const b = button(label, () => {
    if (Date.now() - sure < 4000) { back(); return does(); }
    sure = Date.now(); put(b, "Really?"); b.classList.add("cu-bad"); setTimeout(back, 4000);
  }, "cu-small");
  return b;
}

/** What is unfinished, and what was sent. @param {HTMLElement} below */
export function shelf(below, lists, act) {
  const { unfinished = [], history = [] } = lists, keep = below.querySelector("details")?.open;
  const rows = (title, items) => { const box = el("section", "cu-card cu-list"); box.append(el("h4", "", title), ...items); return box; };
  const line = (name, facts, actions) => { const r = el("div", "cu-item"), t = el("div", "cu-words"), b = el("div", "cu-buttons"); t.append(el("span", "cu-name", name), el("span", "cu-dim", facts.filter(Boolean).join(" · "))); t.title = t.textContent; b.append(...actions); r.append(t, b); return r; };
  const parts = [];
  if (unfinished.length) parts.push(rows(`We found ${unfinished.length === 1 ? "1 unfinished upload" : `${unfinished.length} unfinished uploads`}`, unfinished.map((one) => {
    const go = one.how ? el("span", "cu-dim", one.how) : button("Resume", () => act("resume", { id: one.id }), "cu-small");
    return line(one.name, [`→ ${one.target}`, one.kept, one.life], [go, twice("Discard", () => act("discard", { id: one.id }))]);
  })));
  if (history.length) {
    const box = el("details", "cu-card cu-list"); box.open = !!keep;
    box.append(el("summary", "", `History: ${history.length} uploaded`), ...history.map((one) => {
      return line(one.name, [one.id, `→ ${one.target}`, one.size, one.when, one.expired ? "expired" : ""], [copier("Copy id", () => one.id)]);
    }));
    parts.push(box);
  }
  below.replaceChildren(...parts);
}
