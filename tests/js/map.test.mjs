// What a map of parts shows; run by tests/test_scripts.py through `node --test`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const text = readFileSync(new URL("../../chunkup_jupyter/ui/map.js", import.meta.url), "utf8");
const map = await import("data:text/javascript;base64," + Buffer.from(text).toString("base64"));

const head = { n: 4, size: 35, part: 10, tries: { 2: [1, "HTTP 503"] }, flight: { 2: 3 }, name: "a.bin", word: "Uploading: 40%", counts: "1 of 4 parts", speed: ["1 MB/s", "9 s left"], note: "" };

test("deltas are written and only what differs is told", () => {
  const levels = new Uint8Array(4), view = new DataView(new ArrayBuffer(12));
  view.setUint32(0, (2 << 8) | 255, true); view.setUint32(4, (3 << 8) | 0, true); view.setUint32(8, (9 << 8) | 7, true);
  assert.deepEqual(map.apply(levels, view), [2]);
  assert.deepEqual([...levels], [0, 0, 255, 0]);
});

test("a delta cut short is no error", () => {
  assert.deepEqual(map.apply(new Uint8Array(4), new DataView(new ArrayBuffer(3))), []);
});

test("every number of parts fits the width and the height", () => {
  for (const n of [1, 2, 7, 16, 50, 128, 1000, 2500, 10000, 100000])
    for (const width of [300, 468, 500, 908, 1600]) {
      const grid = map.gridOf(n, width);
      assert.ok(grid.cols * grid.dx <= width + 1e-6, `${n} in ${width}: too wide`);
      assert.ok(grid.rows * grid.dy <= 154, `${n} in ${width}: too tall`);
      assert.ok(grid.cells * grid.per >= n && (grid.cells - 1) * grid.per < n, `${n}: every part has a cell`);
      assert.ok(grid.cols * grid.rows >= grid.cells && grid.dx >= 8);
    }
});

test("a few parts make one row of wide cells", () => {
  assert.equal(map.gridOf(16, 908).rows, 1);
  assert.equal(map.gridOf(1, 908).dx, 64);
});

test("a cell of several parts shows the most urgent", () => {
  assert.deepEqual(map.sum([255, 255, 255], 0, 3), ["done", 1]);
  assert.equal(map.sum([255, 253, 250], 0, 3)[0], "failed");
  assert.equal(map.sum([255, 0, 250], 0, 3)[0], "retrying");
  assert.deepEqual(map.sum([255, 0], 0, 2), ["sending", 0.5]);
  assert.deepEqual(map.sum([254, 254], 0, 2), ["reused", 1]);
  assert.deepEqual(map.sum([0, 0], 0, 2), ["queued", 0]);
  assert.deepEqual(map.sum([254, 255], 0, 2), ["done", 1]);
});

test("the hover text has number, range, bytes, attempts and last error", () => {
  assert.deepEqual(map.about(head, 1, 100), ["Part 2 of 4: sending", "bytes 10 to 19", "3 B of 10 B sent", "attempt 2, after: HTTP 503"]);
  assert.deepEqual(map.about(head, 3, 255), ["Part 4 of 4: done", "bytes 30 to 34", "5 B"]);
});

test("an empty file has one part of no bytes", () => {
  assert.equal(map.about({ ...head, n: 1, size: 0 }, 0, 255)[2], "0 B");
});

test("sizes are written as everywhere else", () => {
  assert.deepEqual([0, 999, 1000, 1_234_567, 99_960_000, 1.9e9].map(map.bytes), ["0 B", "999 B", "1 kB", "1.23 MB", "100 MB", "1.9 GB"]);
});

test("the spoken sentence has state, parts and time left", () => {
  assert.equal(map.sentence(head), "a.bin: Uploading: 40%, 1 of 4 parts, 9 s left");
});

test("kinds differ in shape: no two paint the same rectangles and lines", () => {
  const drawings = new Map();
  for (const kind of map.KINDS) {
    const did = [];
    const c = new Proxy({}, { get: (_, name) => (...args) => did.push(`${String(name)}(${args.map((a) => Math.round(a * 10)).join()})`), set: () => true });
    map.paint(c, 0, 0, 7, 7, kind, 0.5, { go: "x", done: "x", warn: "x", bad: "x", faint: "x", ground: "y", text: "x" });
    const drawing = did.join(";");
    assert.ok(!drawings.has(drawing), `${kind} looks like ${drawings.get(drawing)}`);
    drawings.set(drawing, kind);
  }
});
