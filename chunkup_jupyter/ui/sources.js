// Which files: a path on this machine, the browser's files, or an address elsewhere.
// assets.py puts dom.js and fields.js in front of this file.

const TABS = [
  ["here", "This machine"],
  ["mine", "My computer"],
  ["remote", "Remote"],
];

/** The three tabs and the list of what was chosen.
 * @param {{tab: string, sources: string[], said: Map<string, {shown: string, size: string}>}} state
 * @param {(what: string, more?: object) => Promise<any>} ask asks the kernel
 * @param {(what: string, more?: object) => Promise<any>} act asks it, and shows a problem
 * @param {() => void} changed is told of every change */
export function chooser(state, ask, act, changed) {
  const box = el("div", "cu-part"), tabs = el("div", "cu-tabs"), panes = {}, uid = unique();
  tabs.setAttribute("role", "tablist");
  tabs.setAttribute("aria-label", "Where the files are");
  for (const [name, label] of TABS) {
    const tab = el("button", "cu-tab", label), pane = el("div", "cu-pane");
    tab.type = "button";
    tab.id = `${uid}-${name}`;
    pane.id = `${tab.id}-pane`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", pane.id);
    pane.setAttribute("role", "tabpanel");
    pane.setAttribute("aria-labelledby", tab.id);
    tab.onclick = () => open(name);
    tab.onkeydown = (e) => {
      const at = TABS.findIndex(([one]) => one === name), last = TABS.length - 1;
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      open(TABS[(to + TABS.length) % TABS.length][0]);
      panes[state.tab].tab.focus();
    };
    panes[name] = { tab, pane, label };
    tabs.append(tab);
  }
  function open(chosen) {
    state.tab = chosen;
    for (const [name] of TABS) {
      const { tab, pane } = panes[name];
      tab.setAttribute("aria-selected", String(name === chosen));
      tab.tabIndex = name === chosen ? 0 : -1;
      pane.hidden = name !== chosen;
    }
  }

  // This machine: a path or a pattern, completed; or a look into folders.
  const options = el("datalist"), browser = el("div", "cu-browser"), chips = el("ul", "cu-picked");
  let soon = 0;
  const path = text("", () => (offer(), changed()), {
    placeholder: "path or pattern, such as data/*.jsonl",
  });
  path.setAttribute("list", (options.id = `${uid}-paths`));
  path.setAttribute("aria-label", "Path or pattern");
  browser.setAttribute("role", "group");
  browser.setAttribute("aria-label", "Files on this machine");
  browser.hidden = true;
  chips.setAttribute("aria-label", "Chosen files");
  function offer() {
    clearTimeout(soon);
    soon = setTimeout(async () => {
      const { paths = [] } = await ask("complete", { text: path.value });
      options.replaceChildren(...paths.map((value) => Object.assign(el("option"), { value })));
    }, 150);
  }
  /** Choose what a field says; say whether it meant something. @param {HTMLInputElement} input */
  async function take(input) {
    const value = input.value.trim();
    if (!value) return true;
    const { found = [] } = await act("expand", { text: value });
    if (!found.length) return false;
    choose(found);
    input.value = "";
    return true;
  }
  /** @param {{path: string, shown: string, size: string}[]} found */
  function choose(found) {
    for (const one of found) state.said.set(one.path, one);
    state.sources = union(state.sources, found.map((one) => one.path));
    list();
    changed();
  }
  function leave(source) {
    state.sources = state.sources.filter((one) => one !== source);
    list();
    changed();
  }
  function list() {
    const rows = state.sources.map((source) => {
      const row = el("li"), { shown, size } = state.said.get(source);
      const name = Object.assign(el("span", "cu-name", shown), { title: shown });
      const away = remover(shown, () => {
        const at = [...chips.children].indexOf(row);
        leave(source);
        (chips.children[at] ?? chips.lastChild)?.querySelector("button").focus();
      });
      row.append(icon("file"), name, el("span", "cu-dim", size), away);
      return row;
    });
    chips.replaceChildren(...rows);
    for (const row of browser.querySelectorAll("[data-path]")) {
      row.setAttribute("aria-pressed", String(state.sources.includes(row.dataset.path)));
    }
  }
  async function look(folder) {
    const inside = browser.contains(document.activeElement);
    const { listing } = await ask("browse", { folder });
    const row = (drawn, name, size, does, label) => {
      const b = el("button", "cu-entry");
      b.type = "button";
      b.append(icon(drawn), el("span", "cu-name", name), el("span", "cu-dim", size));
      b.setAttribute("aria-label", label);
      b.onclick = does;
      return b;
    };
    const rows = listing.rows.map((one) => {
      if (one.folder) return row("folder", one.name, "", () => look(one.path), `Open folder ${one.name}`);
      const b = row("file", one.name, one.size, () => {
        if (state.sources.includes(one.path)) leave(one.path);
        else choose([{ path: one.path, shown: one.path, size: one.size }]);
      }, `Choose ${one.name}`);
      b.dataset.path = one.path;
      b.append(icon("check"));
      return b;
    });
    const last =
      listing.problem ||
      (listing.more ? `and ${listing.more} more: write a path` : rows.length ? "" : "nothing here");
    if (last) rows.push(el("div", "cu-entry cu-dim", last));
    const up = row("up", listing.folder, "", () => look(listing.parent), "Open the folder above");
    up.title = listing.folder;
    browser.dataset.folder = listing.folder;
    browser.replaceChildren(up, ...rows);
    browser.scrollTop = 0;
    list();
    if (inside) up.focus();
  }
  const browse = button("Browse", () => {
    browser.hidden = !browser.hidden;
    browse.setAttribute("aria-expanded", String(!browser.hidden));
    if (!browser.hidden) look("");
  });
  browse.setAttribute("aria-expanded", "false");
  const pathRow = el("div", "cu-row");
  pathRow.append(path, button("Add", () => take(path)), browse);
  panes.here.pane.append(pathRow, options, browser);
  onEnter(path, () => take(path));

  const url = text("", changed, { placeholder: "s3://bucket/key, gs://…, hf://…, https://…" });
  const urlRow = el("div", "cu-row");
  url.setAttribute("aria-label", "Remote address");
  urlRow.append(url, button("Add", () => take(url)));
  const how = "Read in pieces by this kernel and passed on; kept here first only where a server offers no ranges";
  panes.remote.pane.append(urlRow, el("div", "cu-dim", how));
  onEnter(url, () => take(url));

  box.append(tabs, ...TABS.map(([name]) => panes[name].pane), chips);
  open(state.tab);
  list();
  return {
    box,
    /** Where the picker goes. */
    mine: panes.mine.pane,
    /** Whether something is written that was not added yet. */
    pending: () => !!(path.value.trim() || url.value.trim()),
    /** What is written and was not added yet is meant, too; say whether all of it is a file. */
    commit: async () => (await take(path)) && (await take(url)),
    /** Say how many of the browser's files are chosen. */
    picked: (count) => put(panes.mine.tab, panes.mine.label + (count ? ` (${count})` : "")),
    clear() {
      state.sources = [];
      list();
      if (!browser.hidden) look(browser.dataset.folder);
    },
  };
}
