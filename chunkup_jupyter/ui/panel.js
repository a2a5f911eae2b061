// The upload panel: sources in three tabs, a destination, the line that says the same,
// plan and start; below it the uploads, what is unfinished, and what was sent.
// assets.py puts dom.js and fields.js in front of this file. Keys go to the kernel in a message of
// their own and are never part of any state; nothing here is a <form>, whose Enter
// JupyterLab would swallow.

const TABS = [["here", "This machine"], ["mine", "My computer"], ["remote", "Remote"]];

function panel() {
  const asks = new Map();
  let numbers = 0;
  const state = { tab: "here", sources: [], shown: {}, scheme: "", sandbox: false, own: {}, picked: [], used: new Set() };

  function render({ model, el: root }) {
    root.classList.add("chunkup");
    root.dataset.lmSuppressShortcuts = "true";
    root.addEventListener("keydown", (e) => e.stopPropagation());
    const asked = model.get("asked"), uid = unique();
    if (!state.scheme) {
      const last = asked.remembered?.scheme;
      state.scheme = asked.providers.some((one) => one.scheme === last) ? last : (asked.providers.find((one) => one.scheme === "openai") ?? asked.providers[0])?.scheme ?? "";
      state.sandbox = !!asked.remembered?.sandbox;
    }
    const provider = () => asked.providers.find((one) => one.scheme === state.scheme);
    const own = () => (state.own[state.scheme] ??= answersOf(provider(), asked.remembered));

    /** Ask the kernel; when it is busy, say so until it answers. */
    function ask(t, content = {}) {
      const n = ++numbers;
      const late = setTimeout(() => problem("The kernel is busy; this is done when the running cell ends"), 700);
      return new Promise((done) => {
        asks.set(n, (answer) => { clearTimeout(late); if (note.dataset.busy) problem(""); done(answer); });
        try { model.send({ t, n, ...content }); } catch { clearTimeout(late); problem("The kernel is gone: run the cell again"); }
        if (note.textContent.startsWith("The kernel is busy")) note.dataset.busy = "1";
      });
    }
    const heard = (message) => { if (message.t === "answer") { asks.get(message.n)?.(message); asks.delete(message.n); } };
    model.on("msg:custom", heard);
    const form = () => ({ scheme: state.scheme, ...own(), sandbox: state.sandbox, sources: state.sources, picked: state.picked });

    // -- the page
    const card = el("div", "cu-card"), tabs = el("div", "cu-tabs"), panes = {};
    tabs.setAttribute("role", "tablist"); tabs.setAttribute("aria-label", "Where the files are");
    const chips = el("ul", "cu-picked"), target = el("div", "cu-target"), lineBox = el("div", "cu-code"), code = el("code"), beside = el("span", "cu-beside cu-dim"), plan = el("div", "cu-plan"), note = el("span", "cu-note"), keys = el("div", "cu-keys");
    chips.setAttribute("aria-label", "Chosen files"); note.setAttribute("role", "status"); plan.setAttribute("aria-live", "polite");
    const problem = (said, bad = true) => { put(note, said); note.title = said; note.classList.toggle("cu-alarm", bad && !!said); delete note.dataset.busy; };
    const copy = copier("Copy", () => `%chunkup ${code.dataset.line}`);
    const showPlan = button("Plan", async () => { await commit(); table((await act("plan"))?.plan); });
    const start = button("Upload", async () => {
      await commit(); const answer = await act("start");
      if (!answer?.started) return;
      state.picked.forEach((one) => state.used.add(one)); state.picked = []; state.sources = [];
      table(); listed(); changed(); if (!browser.hidden) look(browser.dataset.folder);
    }, "cu-main");
    const act = async (t, more = {}) => { problem(""); const answer = await ask(t, { form: form(), ...more }); if (answer.problem) problem(answer.problem); return answer; };
    lineBox.append(code, beside, copy);
    const foot = el("div", "cu-line cu-foot"), buttons = el("div", "cu-buttons");
    buttons.append(start, showPlan); foot.append(buttons, note);

    for (const [name, label] of TABS) {
      const tab = el("button", "cu-tab", label), pane = el("div", "cu-pane");
      tab.type = "button"; tab.setAttribute("role", "tab"); tab.id = `${uid}-${name}`; pane.setAttribute("role", "tabpanel"); pane.setAttribute("aria-labelledby", tab.id);
      tab.onclick = () => { state.tab = name; chosen(); };
      tab.onkeydown = (e) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
        if (!step) return;
        const at = TABS.findIndex(([one]) => one === state.tab); state.tab = TABS[(at + step + TABS.length) % TABS.length][0]; chosen(); panes[state.tab].tab.focus();
      };
      panes[name] = { tab, pane }; tabs.append(tab);
    }
    function chosen() {
      for (const [name] of TABS) { const on = name === state.tab, { tab, pane } = panes[name]; tab.setAttribute("aria-selected", String(on)); tab.tabIndex = on ? 0 : -1; pane.hidden = !on; }
    }

    // This machine: a path or a pattern, completed; or a look into folders.
    const path = text("", () => { offer(); changed(); }, { placeholder: "path or pattern, such as data/*.jsonl" }), options = el("datalist"), browser = el("div", "cu-browser");
    options.id = `${uid}-paths`; path.setAttribute("list", options.id); path.setAttribute("aria-label", "Path or pattern"); browser.hidden = true;
    let soon = 0;
    const offer = () => { clearTimeout(soon); soon = setTimeout(async () => { const { paths = [] } = await ask("complete", { text: path.value }); suggest(options, paths); }, 150); };
    async function take(input) {
      const value = input.value.trim();
      if (!value) return;
      const answer = await act("expand", { text: value });
      if (!answer.paths?.length) return;
      answer.paths.forEach((one, i) => { state.shown[one] = answer.shown[i]; });
      state.sources = union(state.sources, answer.paths); input.value = ""; listed(); changed();
    }
    /** What stands in a source field and was not added yet is meant, too. */
    const commit = () => (state.tab === "here" ? take(path) : state.tab === "remote" ? take(url) : null);
    const enter = (input) => { input.onkeydown = (e) => { if (e.key === "Enter") { e.preventDefault(); take(input); } }; };
    enter(path);
    async function look(folder) {
      const { listing } = await ask("browse", { folder });
      browser.dataset.folder = listing.folder;
      const row = (mark, name, size, does, label) => {
        const b = el("button", "cu-entry"); b.type = "button"; b.append(el("span", "cu-mark", mark), el("span", "cu-name", name), el("span", "cu-dim", size)); b.onclick = does; b.setAttribute("aria-label", label); return b;
      };
      const rows = listing.rows.map((one) => one.folder
        ? row("▸", one.name + "/", "", () => look(one.path), `Open folder ${one.name}`)
        : row(state.sources.includes(one.path) ? "✓" : "+", one.name, one.size, (e) => { const has = state.sources.includes(one.path); state.sources = has ? state.sources.filter((s) => s !== one.path) : [...state.sources, one.path]; put(e.currentTarget.firstChild, has ? "+" : "✓"); listed(); changed(); }, `Choose ${one.name}`));
      const last = listing.problem || (listing.more ? `and ${listing.more} more: write a path` : listing.rows.length ? "" : "nothing here");
      browser.replaceChildren(row("↰", listing.folder, "", () => look(listing.parent), "Open the folder above"), ...rows, ...(last ? [el("div", "cu-dim cu-entry", last)] : []));
    }
    const browse = button("Browse", () => { browser.hidden = !browser.hidden; browse.setAttribute("aria-expanded", String(!browser.hidden)); if (!browser.hidden) look(""); });
    browse.setAttribute("aria-expanded", "false");
    const pathRow = el("div", "cu-row"); pathRow.append(path, button("Add", () => take(path)), browse); panes.here.pane.append(pathRow, options, browser);
    const url = text("", () => changed(), { placeholder: "s3://bucket/key, gs://…, hf://…, https://…" }), urlRow = el("div", "cu-row"), slot = el("div"), below = el("div", "cu-below");
    url.setAttribute("aria-label", "Remote address"); enter(url); urlRow.append(url, button("Add", () => take(url)));
    panes.remote.pane.append(urlRow, el("div", "cu-dim", "Read in pieces by this kernel and passed on; nothing is stored")); panes.mine.pane.append(slot);

    function listed() {
      chips.replaceChildren(...state.sources.map((one) => {
        const said = state.shown[one] ?? one; // an address without its query
        const item = el("li"), away = el("button", "cu-away", "×"); away.type = "button"; away.setAttribute("aria-label", `Remove ${said}`);
        away.onclick = () => { state.sources = state.sources.filter((s) => s !== one); listed(); changed(); };
        item.append(el("span", "cu-mark", "✓"), Object.assign(el("span", "cu-name", said), { title: said }), away); return item;
      }));
    }

    // Where to: everything a provider asks comes from its own declaration.
    function destination() {
      const kind = provider(), mine = own(), fields = el("div", "cu-grid"), more = el("details", "cu-more"), rest = el("div", "cu-grid");
      const set = (flag) => (value) => { if (value) mine.options[flag] = value; else delete mine.options[flag]; changed(); };
      fields.append(field("Provider", choice(state.scheme, asked.providers.map((one) => [one.scheme, one.title]), (v) => { state.scheme = v; destination(); changed(); })));
      kind.place.forEach((one, i) => {
        const value = mine.place[i] ?? "", say = (v) => { mine.place[i] = v; changed(); };
        fields.append(field(one.label, one.choices.length ? choice(value, [["", "choose …"], ...union(one.choices, value ? [value] : []).map((c) => [c, c])], say) : text(value, say, { placeholder: one.help }), one.help));
      });
      for (const one of kind.fields) {
        const value = mine.options[one.flag] ?? "";
        let input;
        if (one.toggle) { input = el("input"); input.type = "checkbox"; input.checked = value === "on"; input.onchange = () => set(one.flag)(input.checked ? "on" : ""); }
        else if (one.choices.length) input = choice(value, [["", one.usual || "usual"], ...one.choices.filter((c) => c !== one.usual).map((c) => [c, c])], set(one.flag));
        else input = text(value, set(one.flag), { placeholder: one.usual });
        (one.first ? fields : rest).append(field(one.label, input, one.help));
      }
      more.append(el("summary", "", "More options"), rest);
      const try_ = el("label", "cu-check"), box = el("input"); box.type = "checkbox"; box.checked = state.sandbox; box.onchange = () => { state.sandbox = box.checked; changed(); };
      try_.append(box, " Try it in the sandbox: a server on this machine, no account needed");
      target.replaceChildren(fields, keys, try_, more);
    }
    let shownKeys = "";
    function badge({ found, text: said, needs }, typed) {
      const now = JSON.stringify([found, said, needs, typed, state.scheme, state.sandbox]);
      if (now === shownKeys) return;
      shownKeys = now;
      const pill = el("span", `cu-badge ${found ? "cu-ok" : "cu-no"}`, `${found ? "✓" : "!"} ${said}`);
      keys.replaceChildren(...(said ? [pill] : []));
      if (found && typed.length && !state.sandbox) keys.append(button("Forget", async () => told(await ask("secret", { scheme: state.scheme, form: form() })), "cu-small"));
      if (found || !needs.length) return;
      const grid = el("div", "cu-grid");
      for (const need of needs) {
        const input = text("", () => {}, { password: true, placeholder: typed.includes(need.field) ? "entered" : "kept in memory only" });
        const give = async () => {
          const key = input.value; input.value = ""; // before anything else happens to it
          if (key) told(await ask("secret", { scheme: state.scheme, field: need.field, key, form: form() }));
        };
        input.onkeydown = (e) => { if (e.key === "Enter") { e.preventDefault(); give(); } }; input.onblur = give;
        grid.append(field(need.label, input));
      }
      grid.append(field("Or a variable", text(own().key_env, (v) => { own().key_env = v; changed(); }, { placeholder: "NAME_OF_VARIABLE" }), "the name of an environment variable that holds the key"));
      keys.append(grid);
    }

    let pending = 0, turn = 0;
    function changed() { clearTimeout(pending); pending = setTimeout(async () => { const mine = ++turn, answer = await ask("form", { form: form() }); if (mine === turn) told(answer); }, 120); }
    function told(answer) {
      if (!answer.badge) return;
      badge(answer.badge, answer.typed);
      const count = answer.count;
      put(start, uploads(count)); start.disabled = showPlan.disabled = !answer.ready || !(count || path.value.trim() || url.value.trim());
      code.dataset.line = answer.line; copy.hidden = !answer.line;
      put(code, answer.line ? `%chunkup ${answer.line}` : ""); code.title = code.textContent; code.hidden = !answer.line; put(beside, answer.beside);
      problem(answer.problem);
    }
    const table = (rows) => { plan.hidden = !rows?.length; plan.replaceChildren(facts(rows ?? [])); };

    const lists = () => shelf(below, model.get("lists"), act);

    const sources = el("div", "cu-part"), to = el("div", "cu-part");
    sources.append(tabs, ...TABS.map(([name]) => panes[name].pane), chips); to.append(el("h4", "", "Destination"), target); card.append(sources, to, lineBox, plan, foot);
    const queue = el("div", "cu-queue"); root.append(card, queue, below);
    chosen(); listed(); destination(); lists(); table(); changed();
    model.on("change:lists", lists);
    const child = (id, into) => model.widget_manager.get_model(id).then(async (one) => { into.append((await model.widget_manager.create_view(one)).el); return one; });
    const tidy = button("Clear finished", () => act("tidy"), "cu-small");
    child(asked.view, queue).then((view) => {
      const update = () => { tidy.hidden = !(view.get("heads") ?? []).some((h) => ["completed", "failed", "stopped", "cancelled"].includes(h.state)); };
      queue.append(tidy); view.on("change:heads", update); update();
    });
    child(asked.picker, slot).then((picker) => {
      const update = () => { state.picked = (picker.get("listed") ?? []).map((row) => row.file).filter((one) => !state.used.has(one)); changed(); };
      picker.on("change:listed", update); update();
    });
    return () => { model.off("msg:custom", heard); model.off("change:lists", lists); };
  }
  return { render };
}

export default panel;
