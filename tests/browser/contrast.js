// Texts that differ too little from what is behind them: [ratio, text, class] below 4.5 to 1.
(root) => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  /** Red, green and blue of 0 to 255, and how opaque. @param {string} colour */
  function parts(colour) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, opaque] = context.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, opaque / 255];
  }
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  function light(colour) {
    const [red, green, blue] = colour.map((v) => (v <= 10 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }
  function upwards(node) {
    const found = [];
    for (let one = node; one; one = one.parentElement) found.push(getComputedStyle(one));
    return found;
  }
  const bad = [];
  function see(node, colour, text) {
    const styles = upwards(node);
    const ground = styles.reduceRight((below, style) => over(parts(style.backgroundColor), below), [255, 255, 255]);
    const ink = parts(colour);
    for (const style of styles) ink[3] *= Number(style.opacity);
    const [more, less] = [light(over(ink, ground)), light(ground)].sort((a, b) => b - a);
    const ratio = (more + 0.05) / (less + 0.05);
    if (ratio < 4.5) bad.push([Number(ratio.toFixed(2)), text.slice(0, 40), node.className]);
  }
  for (const node of root.querySelectorAll("*")) {
    if (!node.checkVisibility({ visibilityProperty: true }) || node.closest(":disabled")) continue;
    const written = [...node.childNodes].find((one) => one.nodeType === 3 && one.textContent.trim());
    if (written || node.tagName === "SELECT") see(node, getComputedStyle(node).color, node.textContent);
    if (node.placeholder && !node.value) {
      see(node, getComputedStyle(node, "::placeholder").color, node.placeholder);
    }
  }
  return bad;
}
