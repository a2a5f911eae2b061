// What the panel works out without a page; run by tests/test_scripts.py through `node --test`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const read = (name) => readFileSync(new URL(`../../chunkup_jupyter/ui/${name}.js`, import.meta.url), "utf8");
const text = ["dom", "fields", "sources", "target", "shelf", "panel"].map(read).join("\n");
const js = await import("data:text/javascript;base64," + Buffer.from(text).toString("base64"));

test("the main button counts the files", () => {
  assert.deepEqual([0, 1, 7].map(js.uploads), ["Upload", "Upload 1 file", "Upload 7 files"]);
});

test("what is chosen twice is chosen once, in order", () => {
  assert.deepEqual(js.union(["b", "a"], ["c", "a", "c"]), ["b", "a", "c"]);
});

const oss = { scheme: "oss", place: [{ label: "Bucket" }, { label: "Key" }] };

test("a form begins with what was answered last time", () => {
  const remembered = { providers: { oss: { place: ["mine"], options: { "--region": "r" }, key_env: "K_1" } } };
  assert.deepEqual(js.answersOf(oss, remembered), { place: ["mine", ""], options: { "--region": "r" }, key_env: "K_1" });
  assert.deepEqual(js.answersOf(oss, undefined), { place: ["", ""], options: {}, key_env: "" });
});

test("what is typed later does not change what was remembered", () => {
  const remembered = { providers: { oss: { place: ["mine", "k"], options: {} } } };
  js.answersOf(oss, remembered).options["--region"] = "other";
  assert.deepEqual(remembered.providers.oss.options, {});
});

test("the first provider is the last one used, else OpenAI, else any", () => {
  const two = [oss, { scheme: "openai" }];
  assert.equal(js.firstOf(two, { scheme: "oss" }), "oss");
  assert.equal(js.firstOf(two, { scheme: "gone" }), "openai");
  assert.equal(js.firstOf([oss], undefined), "oss");
  assert.equal(js.firstOf([], undefined), "");
});
