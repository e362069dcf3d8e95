#!/usr/bin/env node
// The decoder of docs/interactive as a program that answers JSON lines, for tools/fuzz/fuzz.py.
// Only an InvalidFileError is a refusal; any other error ends the program, as a crash would.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const NAMES = [
  ...["philox", "normal", "codes", "integers", "networks", "description", "container", "layout"],
  ...["decoder", "update", "sha256"],
];
const folder = path.join(__dirname, "..", "..", "docs", "interactive");
const sources = NAMES.map((name) => fs.readFileSync(path.join(folder, `${name}.js`), "utf8"));
const page = vm.runInThisContext(
  `${sources.join("\n")}
({ readContainer, decodeModel, decodeChain, bytesOfWeights, InvalidFileError })`,
);

// Files one after the other, each with its size.
function filesOf(bytes, sizes) {
  let first = 0;
  return Array.from(sizes, (size) => bytes.subarray(first, first += Number(size)));
}

function decode(operation, bytes, inputs) {
  if (operation === "decode_model") return page.decodeModel(bytes);
  const sizes = Uint8Array.from(Buffer.from(inputs.sizes.base64, "base64"));
  return page.decodeChain(filesOf(bytes, new BigInt64Array(sizes.buffer)));
}

function answer({ operation, inputs }) {
  const bytes = new Uint8Array(Buffer.from(inputs.data.base64, "base64"));
  try {
    if (operation === "read_container") {
      page.readContainer(bytes);
      return { outputs: {} };
    }
    const weights = page.bytesOfWeights(decode(operation, bytes, inputs).weights);
    const digest = require("crypto").createHash("sha256").update(weights).digest("base64");
    return { outputs: { sha256: { dtype: "uint8", shape: [32], base64: digest } } };
  } catch (error) {
    if (!(error instanceof page.InvalidFileError)) throw error;
    return { error: error.message };
  }
}

for (const line of fs.readFileSync(0, "utf8").split("\n")) {
  if (line) process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`);
}
