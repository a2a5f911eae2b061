// The upload panel: sources in three tabs, a destination, the line that says the same,
// plan and start; below it the uploads, what is unfinished, and what was sent.
// assets.py puts dom, fields, sources, target and shelf in front of this file. Keys go to the
// kernel in a message of their own and are never part of any state; nothing here is a <form>,
// whose Enter JupyterLab would swallow.

const LATE = 700; // ms without an answer
const DEAF = "The kernel is busy; this is done when the running cell ends";
const SLOW = "One moment …";
const ENDED = ["completed", "failed", "stopped", "cancelled"];

/** Questions to the kernel and their answers, by number.
 * @param {any} model @param {(text: string) => void} busy says that none comes, or takes it back */
function line(model, busy) {
  const waiting = new Map();
  let numbers = 0;
  const heard = (message) => {
    const question = waiting.get(message.n);
    if (message.t === "heard") question?.heard();
    if (message.t !== "answer") return;
    question?.answered(message);
    waiting.delete(message.n);
  };
  model.on("msg:custom", heard);
  /** @returns {Promise<any>} */
  const ask = (t, content = {}) =>
    new Promise((done) => {
      const n = ++numbers;
      let late = setTimeout(() => busy(DEAF), LATE);
      const quiet = () => {
        clearTimeout(late);
        busy("");
      };
      waiting.set(n, {
        heard() {
          quiet();
          late = setTimeout(() => busy(SLOW), LATE);
        },
        answered(answer) {
          quiet();
          done(answer);
        },
      });
      try {
        model.send({ t, n, ...content });
      } catch {
        clearTimeout(late);
        busy("The kernel is gone: run the cell again");
      }
    });
  return { ask, close: () => model.off("msg:custom", heard) };
}

function panel() {
  const state = { tab: "here", sources: [], said: new Map(), picked: [], scheme: "", sandbox: false, own: {} };

  function render({ model, el: root }) {
    root.classList.add("chunkup");
    root.dataset.lmSuppressShortcuts = "true";
    root.addEventListener("keydown", (e) => e.stopPropagation());
    const asked = model.get("asked");
    if (!state.scheme) {
      state.scheme = firstOf(asked.providers, asked.remembered);
      state.sandbox = !!asked.remembered?.sandbox;
    }

    // One place for problems; what the form says is replaced by the form, not by others.
    const note = el("span", "cu-note");
    note.dataset.who = "";
    note.setAttribute("role", "status");
    const say = (who, text) => {
      if (!text && note.dataset.who !== who) return;
      note.dataset.who = who;
      note.title = text;
      note.classList.toggle("cu-alarm", text !== SLOW);
      put(note, text);
    };
    const { ask, close } = line(model, (text) => say("busy", text));
    const act = async (t, more = {}) => {
      say(note.dataset.who, "");
      const answer = await ask(t, { form: form(), ...more });
      if (answer.problem) say("act", answer.problem);
      return answer;
    };
    const form = () => ({ ...target.answers(), sources: state.sources, picked: state.picked });

    let pending = 0, turn = 0;
    function changed() {
      clearTimeout(pending);
      pending = setTimeout(async () => {
        const mine = ++turn, answer = await ask("form", { form: form() });
        if (mine === turn) told(answer);
      }, 120);
    }
    const files = chooser(state, ask, act, changed);
    const target = destination(
      asked,
      state,
      async (what) => told(await ask("secret", { ...what, form: form() })),
      changed,
    );

    // The line that does the same, and what is done with it.
    const lineBox = el("div", "cu-code"), code = el("code"), beside = el("span", "cu-dim");
    const copy = copier("Copy", () => code.textContent);
    const plan = el("div", "cu-plan"), foot = el("div", "cu-act"), buttons = el("div", "cu-buttons");
    const table = (rows = []) => {
      plan.hidden = !rows.length;
      plan.replaceChildren(facts(rows));
    };
    const showPlan = button("Plan", async () => {
      if (await files.commit()) table((await act("plan")).plan);
    });
    const start = button(
      "Upload",
      async () => {
        if (!(await files.commit())) return;
        start.disabled = true; // a second click would send them twice
        if ((await act("start")).started) {
          table();
          files.clear();
        }
        changed();
      },
      "cu-main",
    );
    plan.tabIndex = 0; // it may be longer than its place
    plan.setAttribute("role", "region");
    plan.setAttribute("aria-label", "Plan");
    plan.setAttribute("aria-live", "polite");
    copy.setAttribute("aria-label", "Copy the line");
    start.disabled = showPlan.disabled = copy.hidden = code.hidden = true;
    lineBox.append(code, beside, copy);
    buttons.append(start, showPlan);
    foot.append(buttons, note);
    function told({ badge, typed, count, ready, line, beside: also, problem }) {
      if (!badge) return;
      target.badge(badge, typed);
      put(start, uploads(count));
      start.disabled = showPlan.disabled = !ready || !(count || files.pending());
      code.hidden = copy.hidden = !line;
      put(code, line && `%chunkup ${line}`);
      put(beside, also);
      say("form", problem);
    }

    const card = el("div", "cu-card"), queue = el("section"), head = el("div", "cu-head");
    const below = el("div"), tidy = button("Clear finished", () => act("tidy"), "cu-small");
    card.append(files.box, target.box, lineBox, plan, foot);
    head.append(el("h4", "", "Uploads"), tidy);
    queue.append(head);
    queue.hidden = true;
    root.append(card, queue, below);

    const child = async (id, place) => {
      const one = await model.widget_manager.get_model(id);
      place.append((await model.widget_manager.create_view(one)).el);
      return one;
    };
    child(asked.view, queue).then((view) => {
      const update = () => {
        const heads = view.get("heads") ?? [];
        queue.hidden = !heads.length;
        tidy.hidden = !heads.some((one) => ENDED.includes(one.state));
      };
      view.on("change:heads", update);
      update();
    });
    let picker = null;
    function lists() {
      const { sending = [], ...rest } = model.get("lists");
      shelf(below, rest, act);
      const listed = (picker?.get("listed") ?? []).map((row) => row.file);
      state.picked = listed.filter((one) => !sending.includes(one));
      files.picked(state.picked.length);
      changed();
    }
    child(asked.picker, files.mine).then((one) => {
      picker = one;
      picker.on("change:listed", lists);
      lists();
    });
    model.on("change:lists", lists);
    table();
    lists();
    return () => {
      close();
      model.off("change:lists", lists);
      picker?.off("change:listed", lists);
    };
  }
  return { render };
}

export default panel;
