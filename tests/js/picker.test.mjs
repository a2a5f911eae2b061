// Slices of a file for the kernel; run by tests/test_scripts.py through `node --test`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const read = (name) => readFileSync(new URL(`../../chunkup_jupyter/ui/${name}.js`, import.meta.url), "utf8");
const js = await import("data:text/javascript;base64," + Buffer.from(read("dom") + read("fields") + read("picker")).toString("base64"));

test("a file is known by name, size and time", () => {
  assert.equal(js.keyOf({ name: "a.bin", size: 3, lastModified: 5 }), "a.bin:3:5");
});

test("every range that was asked for is one message with its offset", async () => {
  const said = [];
  await js.slices(new Blob(["0123456789"]), "k", [[6, 4], [0, 3]], (message, buffer) => said.push([message, Buffer.from(buffer).toString()]));
  assert.deepEqual(said, [[{ t: "slice", file: "k", start: 6 }, "6789"], [{ t: "slice", file: "k", start: 0 }, "012"]]);
});

test("a file that is shorter now is an error, told once", async () => {
  const said = [];
  await js.slices(new Blob(["012"]), "k", [[2, 4], [4, 4]], (message) => said.push(message));
  assert.deepEqual(said, [{ t: "error", file: "k", reason: "it is shorter now" }]);
});

test("a file that cannot be read any more is an error", async () => {
  const said = [], broken = { slice: () => ({ arrayBuffer: () => Promise.reject(Object.assign(new Error("x"), { name: "NotReadableError" })) }) };
  await js.slices(broken, "k", [[0, 4]], (message) => said.push(message));
  assert.deepEqual(said, [{ t: "error", file: "k", reason: "NotReadableError" }]);
});

test("a drop gives its files and no folders", () => {
  const item = (name, folder) => ({ kind: "file", webkitGetAsEntry: () => ({ isDirectory: folder }), getAsFile: () => name });
  assert.deepEqual(js.dropped({ items: [item("a"), item("b", true), { kind: "string" }], files: [] }), ["a"]);
  assert.deepEqual(js.dropped({ files: ["c"] }), ["c"]);
});
