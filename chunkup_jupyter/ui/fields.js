// Controls and tables that the panel is made of.
// assets.py puts dom.js in front of this file.

/** The words on the main button. @param {number} count */
export const uploads = (count) =>
  count === 0 ? "Upload" : count === 1 ? "Upload 1 file" : `Upload ${count} files`;

/** Add what is new, in order. @param {string[]} list @param {string[]} more */
export const union = (list, more) => [...new Set([...list, ...more])];

let made = 0;
export const unique = () => `cu${++made}`;

/** A picture without words, drawn by the style sheet. @param {string} name */
export const icon = (name) => {
  const drawn = el("span", `cu-icon cu-i-${name}`);
  drawn.setAttribute("aria-hidden", "true");
  return drawn;
};

/** @param {string} label @param {(e: MouseEvent) => void} does */
export const button = (label, does, cls = "") => {
  const b = el("button", `cu-button ${cls}`, label);
  b.type = "button";
  b.onclick = does;
  return b;
};

/** A button that takes something out of a list. @param {string} name @param {() => void} does */
export const remover = (name, does) => {
  const b = el("button", "cu-away");
  b.type = "button";
  b.append(icon("close"));
  b.setAttribute("aria-label", `Remove ${name}`);
  b.title = b.getAttribute("aria-label");
  b.onclick = does;
  return b;
};

/** A control under its label. @param {string} label @param {HTMLElement} input */
export function field(label, input, help = "") {
  const wrap = el("div", input.type === "checkbox" ? "cu-field cu-tick" : "cu-field");
  const name = el("label", "", label);
  input.id = name.htmlFor = unique();
  wrap.append(name, input);
  wrap.title = help;
  if (help) input.setAttribute("aria-description", help);
  return wrap;
}

/** @param {string} value @param {(value: string) => void} changed */
export function text(value, changed, { placeholder = "", password = false } = {}) {
  const input = el("input", "cu-input");
  input.type = password ? "password" : "text";
  input.autocomplete = password ? "new-password" : "off";
  Object.assign(input, { value, placeholder, spellcheck: false });
  input.oninput = () => changed(input.value);
  return input;
}

/** Do something when Enter is pressed. @param {HTMLElement} input @param {() => void} does */
export function onEnter(input, does) {
  input.addEventListener("keydown", (e) => {
    if (e.key !== "Enter") return;
    e.preventDefault();
    does();
  });
}

/** @param {string} value @param {[string, string][]} options @param {(value: string) => void} changed */
export function choice(value, options, changed) {
  const select = el("select", "cu-input");
  for (const [key, label] of options) {
    select.append(Object.assign(el("option", "", label), { value: key }));
  }
  select.value = value;
  select.onchange = () => changed(select.value);
  return select;
}

/** @param {boolean} on @param {(on: boolean) => void} changed */
export function tick(on, changed) {
  const box = el("input");
  box.type = "checkbox";
  box.checked = on;
  box.onchange = () => changed(box.checked);
  return box;
}

/** Rows of label and text. @param {[string, string][]} rows */
export function facts(rows) {
  const table = el("table", "cu-table");
  for (const [label, said] of rows) {
    const row = el("tr", { Warning: "cu-warning", Refused: "cu-refused" }[label] ?? "");
    row.append(Object.assign(el("th", "", label), { scope: "row" }), el("td", "", said));
    table.append(row);
  }
  return table;
}

/** A button that copies; it says whether it could. @param {() => string} what */
export function copier(label, what) {
  const b = button(
    label,
    async () => {
      put(b, (await copied(what())) ? "Copied" : "Failed");
      setTimeout(() => put(b, label), 1500);
    },
    "cu-small",
  );
  return b;
}

/** A button that wants a second click within four seconds. */
export function twice(label, does) {
  let sure = 0;
  const back = () => {
    sure = 0;
    put(b, label);
    b.classList.remove("cu-bad");
  };
  const b = button(
    label,
    () => {
      if (Date.now() - sure < 4000) {
        back();
        does();
        return;
      }
      sure = Date.now();
      put(b, "Really?");
      b.classList.add("cu-bad");
      setTimeout(back, 4000);
    },
    "cu-small",
  );
  return b;
}
