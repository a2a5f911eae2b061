// A drop zone whose files stay in the page: the kernel asks for slices of them.
// assets.py puts dom.js and fields.js in front of this file.

const HOW = "Passed on piece by piece; nothing is stored on this kernel's disk";

/** What tells two files apart. @param {{name: string, size: number, lastModified: number}} file */
export const keyOf = (file) => `${file.name}:${file.size}:${file.lastModified}`;

/** Slices as the kernel asked for them, one message each; a failure is told once.
 * @param {Blob} file @param {string} key @param {[number, number][]} ranges
 * @param {(message: object, buffer?: ArrayBuffer) => void} answer */
export async function slices(file, key, ranges, answer) {
  for (const [start, size] of ranges) {
    let buffer;
    try {
      buffer = await file.slice(start, start + size).arrayBuffer();
    } catch (error) {
      return answer({ t: "error", file: key, reason: String(error?.name ?? error) });
    }
    if (buffer.byteLength !== size) {
      return answer({ t: "error", file: key, reason: "it is shorter now" });
    }
    answer({ t: "slice", file: key, start }, buffer);
  }
}

/** The files of a drop, without folders. @param {DataTransfer} transfer @returns {File[]} */
export function dropped(transfer) {
  const items = [...(transfer.items ?? [])].filter((item) => item.kind === "file");
  if (!items.length) return [...transfer.files];
  return items
    .filter((item) => !item.webkitGetAsEntry?.()?.isDirectory)
    .map((item) => item.getAsFile())
    .filter(Boolean);
}

/** One widget: its files live as long as its model, whatever becomes of its views. */
export function picker() {
  /** @type {Map<string, File>} */
  const files = new Map();
  const views = new Set();
  let send = (message, buffer) => {};
  let lost = false;
  const refresh = () => views.forEach((view) => view());

  function initialize({ model }) {
    send = (message, buffer) => {
      const was = lost;
      try {
        model.send(message, undefined, buffer ? [buffer] : []);
        lost = false;
      } catch {
        lost = true;
      }
      if (lost !== was) refresh();
    };
    model.on("msg:custom", (message) => {
      const file = files.get(message.file);
      if (message.t === "ask" && file) slices(file, message.file, message.ranges, send);
      if (message.t === "drop") {
        files.delete(message.file);
        refresh();
      }
      if (message.t === "who") {
        const mine = message.files.filter((key) => files.has(key));
        if (mine.length) send({ t: "have", files: mine });
      }
    });
    const bye = () => {
      if (files.size) send({ t: "bye" });
    };
    window.addEventListener("pagehide", bye);
    // The kernel learns that a page was loaded, and asks whether it still has the files.
    send({ t: "hello" });
    return () => window.removeEventListener("pagehide", bye);
  }

  /** @param {Iterable<File>} list */
  function add(list) {
    const fresh = [...list];
    for (const file of fresh) files.set(keyOf(file), file);
    const told = fresh.map((f) => ({ name: f.name, size: f.size, type: f.type, modified: f.lastModified }));
    if (fresh.length) send({ t: "picked", files: told });
    refresh();
  }

  function render({ model, el: root }) {
    root.classList.add("chunkup");
    root.dataset.lmSuppressShortcuts = "true";
    const zone = el("div", "cu-drop"), input = el("input", "cu-hidden"), words = el("div", "cu-drop-text");
    const hint = el("div", "cu-dim", HOW), list = el("ul", "cu-picked"), say = el("div", "cu-hidden");
    const browse = el("button", "cu-link", "browse");
    browse.type = "button";
    browse.setAttribute("aria-label", "Browse for files to upload");
    browse.onclick = (e) => {
      e.stopPropagation();
      input.click();
    };
    input.type = "file";
    input.multiple = true;
    input.tabIndex = -1;
    input.setAttribute("aria-hidden", "true");
    input.onchange = () => {
      add(input.files);
      input.value = "";
    };
    list.setAttribute("aria-label", "Picked files");
    say.setAttribute("role", "status");
    words.append("Drop files here or ", browse);
    zone.append(icon("upload"), words, hint, input);
    root.append(zone, list, say);

    const over = (on) => zone.classList.toggle("cu-over", on);
    zone.onclick = (e) => {
      if (e.target !== input) input.click();
    };
    zone.ondragenter = zone.ondragover = (e) => {
      e.preventDefault();
      e.stopPropagation();
      e.dataTransfer.dropEffect = "copy";
      over(true);
    };
    zone.ondragleave = (e) => {
      if (!zone.contains(e.relatedTarget)) over(false);
    };
    zone.ondrop = (e) => {
      e.preventDefault();
      e.stopPropagation();
      over(false);
      add(dropped(e.dataTransfer));
    };

    let shown = "";
    function update() {
      const rows = model.get("listed") ?? [], now = JSON.stringify([rows, lost, [...files.keys()]]);
      if (now === shown) return;
      shown = now;
      const gone = (row) => !files.has(row.file) || row.waiting;
      list.replaceChildren(
        ...rows.map((row) => {
          const line = el("li", gone(row) || lost ? "cu-again" : "");
          const note = lost ? "the kernel is gone" : gone(row) ? "pick this file again to continue" : row.size;
          const name = Object.assign(el("span", "cu-name", row.name), { title: row.name });
          const away = remover(row.name, () => {
            files.delete(row.file);
            send({ t: "gone", file: row.file });
            browse.focus();
          });
          line.append(icon(gone(row) ? "alert" : "file"), name, el("span", "cu-dim", note), away);
          return line;
        }),
      );
      const missing = rows.filter(gone).length, some = missing === 1 ? "1 file" : `${missing} files`;
      put(hint, missing ? `This page no longer has ${some}: pick the same again to continue` : HOW);
      hint.classList.toggle("cu-alarm", missing > 0);
      const names = rows.map((row) => row.name).join(", ");
      put(say, rows.length ? `${rows.length} picked: ${names}${missing ? "; some must be picked again" : ""}` : "");
    }
    views.add(update);
    model.on("change:listed", update);
    update();
    return () => {
      views.delete(update);
      model.off("change:listed", update);
    };
  }
  return { initialize, render };
}

export default picker;
