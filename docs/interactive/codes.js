// The thirteen random codes: which normals the integers of a file name.  docs/SPEC.md,
// sections 2.1 and 7.3 to 7.5.
"use strict";

// Section 2.1: the number of a code is its place here.
const CODES = [
  "mrc", "orc", "pfr", "sp-pfr", "as-star", "ad-star", "dad-star", "grc", "grc-s", "grc-d",
  "gprs", "gprs-s", "gprs-d",
];
const [MRC, ORC, PFR, SP_PFR] = [0, 1, 2, 3];
const SPLIT_ON_SAMPLE = new Set([4, 8, 11]);
const NO_TREE = new Set([7, 10]);

// Codes 4 to 12 have an integer for each variable, the others one for each block.
function isOfVariables(code) {
  return code > SP_PFR;
}

// Section 7.3, codes 0 to 2: rows of the codebook, one after another.
function codebookRows(seed, indices, dimension) {
  const rows = new Float32Array(indices.length * dimension);
  const words = new Uint32Array(4);
  indices.forEach((index, i) => {
    for (let d = 0; d < dimension; d++) {
      if (d % 4 === 0) philox4x32(d / 4, index, 0, 0, seed, STREAM.CODEBOOK, words);
      rows[i * dimension + d] = normalOfWord(words[d % 4]);
    }
  });
  return rows;
}

// Section 7.4, code 3: candidate n of bin j of each block; a message (BigInt) is n 2^bits + j.
function partitionRows(seed, bits, blocks, messages, dimension) {
  const rows = new Float32Array(messages.length * dimension);
  const words = new Uint32Array(4);
  messages.forEach((message, i) => {
    const n = Number(message >> BigInt(bits)), j = Number(message & ((1n << BigInt(bits)) - 1n));
    check(n >= 1 && n < 2 ** 32, `candidate ${n} of a bin is out of range`);
    for (let d = 0; d < dimension; d++) {
      if (d % 4 === 0) philox4x32(n, blocks[i], j, d / 4, seed, STREAM.PARTITION, words);
      const before = Math.floor((d * bits) / dimension);
      const behind = Math.floor(((d + 1) * bits) / dimension);
      const own = 2 ** (behind - before);
      const interval = Math.floor(j / 2 ** (bits - behind)) % own;
      const u = Math.min((interval + uniform(words[d % 4])) / own, LARGEST_U);
      rows[i * dimension + d] = Math.fround(normalQuantile(u));
    }
  });
  return rows;
}

// Section 7.5: the u of node n (BigInt) of a row, within its region (a, b).
function placeNode(a, b, n, row, seed, words) {
  const low = Number(n & 0xffffffffn), high = Number(n >> 32n);
  philox4x32(low, row, high, 0, seed, STREAM.CANDIDATES, words);
  return Math.min(a + (b - a) * uniform52(words[0], words[1]), LARGEST_U);
}

// Section 7.5, codes 4 to 12: the normal of a node of each row; messages are BigInts.
function variableSamples(code, seed, rows, messages) {
  const words = new Uint32Array(4);
  return Float32Array.from(rows, (row, i) => {
    const n = messages[i];
    check(n >= 1n && n < 1n << 62n, `node number ${n} is out of range`);
    let a = 0, b = 1;
    if (!NO_TREE.has(code)) {
      for (let depth = BigInt(n.toString(2).length - 1); depth > 0n; depth--) {
        const c = SPLIT_ON_SAMPLE.has(code)
          ? placeNode(a, b, n >> depth, row, seed, words)
          : (a + b) / 2;
        if ((n >> (depth - 1n)) & 1n) a = c;
        else b = c;
      }
    }
    return normalQuantile(placeNode(a, b, n, row, seed, words));
  });
}

// The normals at all places that hold a variable, in order.
function normalsAtPlaces(file) {
  const { code, seed, blockSize, messages } = file;
  const numbers = messages.map((_, i) => i);
  if (isOfVariables(code)) return variableSamples(code, seed, numbers, messages);
  if (code === SP_PFR) return partitionRows(seed, file.bits, numbers, messages, blockSize);
  return codebookRows(seed, messages, blockSize);
}
