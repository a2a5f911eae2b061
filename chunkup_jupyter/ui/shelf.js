// What is unfinished, and what was sent: the lists at the panel's end.
// assets.py puts dom.js and fields.js in front of this file.

/** One entry: its name, facts in a second line, and what can be done with it.
 * @param {string} name @param {string[]} said @param {HTMLElement[]} buttons */
function entry(name, said, buttons) {
  const row = el("li", "cu-item"), words = el("div", "cu-words"), doing = el("div", "cu-buttons");
  words.append(el("span", "cu-name", name), el("span", "cu-dim", said.filter(Boolean).join(" · ")));
  words.title = [...words.children].map((one) => one.textContent).join("\n");
  for (const b of buttons) b.setAttribute("aria-label", `${b.textContent}: ${name}`);
  doing.append(...buttons);
  row.append(words, doing);
  return row;
}

/** Show the lists; what was unfolded stays so.
 * @param {HTMLElement} place @param {{unfinished?: any[], history?: any[]}} lists
 * @param {(what: string, more: object) => void} act */
export function shelf(place, { unfinished = [], history = [] }, act) {
  const open = !!place.querySelector("details")?.open, parts = [];
  if (unfinished.length) {
    const box = el("section", "cu-card cu-list"), list = el("ul");
    const many = unfinished.length === 1 ? "1 unfinished upload" : `${unfinished.length} unfinished uploads`;
    for (const one of unfinished) {
      const buttons = [twice("Discard", () => act("discard", { id: one.id }))];
      if (!one.how) buttons.unshift(button("Resume", () => act("resume", { id: one.id }), "cu-small"));
      list.append(entry(one.name, [`→ ${one.target}`, one.kept, one.life, one.how], buttons));
    }
    box.append(el("h4", "", `We found ${many}`), list);
    parts.push(box);
  }
  if (history.length) {
    const box = el("details", "cu-card cu-list"), list = el("ul");
    box.open = open;
    for (const one of history) {
      const where = one.target === one.id ? "" : `→ ${one.target}`;
      const said = [one.id, where, one.size, one.when, one.expired ? "expired" : ""];
      list.append(entry(one.name, said, [copier("Copy id", () => one.id)]));
    }
    box.append(el("summary", "", `History: ${history.length} uploaded`), list);
    parts.push(box);
  }
  place.replaceChildren(...parts);
}
