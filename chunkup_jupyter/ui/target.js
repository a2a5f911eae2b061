// Where to: the provider, its fields as it declares them, and whether its keys are there.
// assets.py puts dom.js and fields.js in front of this file.

/** What a provider's form begins with: what was answered last time, else nothing.
 * @param {any} provider @param {any} remembered */
export function answersOf(provider, remembered) {
  const known = remembered?.providers?.[provider.scheme] ?? {};
  const place = provider.place.map((one, i) => known.place?.[i] ?? "");
  return { place, options: { ...(known.options ?? {}) }, key_env: known.key_env ?? "" };
}

/** The provider to begin with: the last one, else OpenAI, else the first.
 * @param {any[]} providers @param {any} remembered */
export function firstOf(providers, remembered) {
  const called = (scheme) => providers.find((one) => one.scheme === scheme);
  return (called(remembered?.scheme) ?? called("openai") ?? providers[0])?.scheme ?? "";
}

/** The form of the destination.
 * @param {any} asked what the kernel says of its providers
 * @param {{scheme: string, sandbox: boolean, own: any}} state
 * @param {(what: object) => void} key sends a key to the kernel, or lets it forget one
 * @param {() => void} changed is told of every change */
export function destination(asked, state, key, changed) {
  const box = el("div", "cu-part"), form = el("div"), keys = el("div", "cu-keys");
  const provider = () => asked.providers.find((one) => one.scheme === state.scheme);
  const own = () => (state.own[state.scheme] ??= answersOf(provider(), asked.remembered));
  box.append(el("h4", "", "Destination"), form);

  function place(one, i) {
    const mine = own(), value = mine.place[i] ?? "";
    const say = (said) => {
      mine.place[i] = said;
      changed();
    };
    if (!one.choices.length) return field(one.label, text(value, say, { placeholder: one.help }), one.help);
    const known = union(one.choices, value ? [value] : []).map((each) => [each, each]);
    return field(one.label, choice(value, [["", "choose …"], ...known], say), one.help);
  }
  function option(one) {
    const { options } = own(), value = options[one.flag] ?? "";
    const say = (said) => {
      if (said) options[one.flag] = said;
      else delete options[one.flag];
      changed();
    };
    if (one.toggle) return field(one.label, tick(value === "on", (on) => say(on ? "on" : "")), one.help);
    if (!one.choices.length) return field(one.label, text(value, say, { placeholder: one.usual }), one.help);
    const others = one.choices.filter((each) => each !== one.usual).map((each) => [each, each]);
    return field(one.label, choice(value, [["", one.usual || "default"], ...others], say), one.help);
  }
  function draw() {
    const kind = provider(), first = el("div", "cu-grid"), rest = el("div", "cu-grid");
    const ticks = el("div", "cu-ticks");
    if (!kind) return;
    const names = asked.providers.map((one) => [one.scheme, one.title]);
    const turn = (scheme) => {
      state.scheme = scheme;
      const focused = form.contains(document.activeElement);
      draw();
      if (focused) form.querySelector("select").focus();
      changed();
    };
    first.append(field("Provider", choice(state.scheme, names, turn)), ...kind.place.map(place));
    for (const one of kind.fields) (one.first ? first : one.toggle ? ticks : rest).append(option(one));
    const sandbox = el("label", "cu-check"), more = el("details", "cu-more");
    const box = tick(state.sandbox, (on) => {
      state.sandbox = on;
      changed();
    });
    sandbox.append(box, "Try it in the sandbox: a server on this machine, no account needed");
    more.append(el("summary", "", "More options"), rest, ticks);
    form.replaceChildren(first, keys, sandbox, more);
  }

  let drawn = "";
  /** Show whether the keys are there, and boxes for those that are not. */
  function badge({ found, text: said, needs }, typed) {
    const now = JSON.stringify([found, said, needs, typed, state.scheme, state.sandbox]);
    if (now === drawn) return;
    drawn = now;
    const pill = el("span", `cu-badge ${found ? "cu-ok" : "cu-no"}`);
    pill.append(icon(found ? "check" : "alert"), said);
    keys.replaceChildren(...(said ? [pill] : []));
    if (found && typed.length && !state.sandbox) {
      keys.append(button("Forget", () => key({ scheme: state.scheme }), "cu-small"));
    }
    if (found || !needs.length) return;
    const grid = el("div", "cu-grid");
    for (const need of needs) {
      const optional = need.required ? "" : "optional; ";
      const hint = typed.includes(need.field) ? "entered" : `${optional}kept in memory only`;
      const input = text("", () => {}, { password: true, placeholder: hint });
      const give = () => {
        const value = input.value;
        input.value = ""; // before anything else happens to it
        if (value) key({ scheme: state.scheme, field: need.field, key: value });
      };
      input.onblur = give;
      onEnter(input, give);
      grid.append(field(need.label, input));
    }
    const named = text(own().key_env, (said) => ((own().key_env = said), changed()), {
      placeholder: "NAME_OF_VARIABLE",
    });
    const help = "the name of an environment variable that holds the key";
    grid.append(field("Or environment variable", named, help));
    keys.append(grid);
  }

  draw();
  return { box, badge, answers: () => ({ scheme: state.scheme, sandbox: state.sandbox, ...own() }) };
}
