// Small things that every widget here does with the page.

/** Make an element. @param {string} tag */
export const el = (tag, cls = "", text = "") =>
  Object.assign(document.createElement(tag), { className: cls, textContent: text });

/** Change a text only when it differs: nothing flickers, no selection is lost.
 * @param {Node} node @param {string} text */
export const put = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

/** Copy text; also where the page may not use the clipboard directly. @param {string} text */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // not a secure page
  }
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
