// Philox4x32-10 and its streams: docs/SPEC.md, section 4.
"use strict";

// Section 4.2, those that this page draws from; SELECTION is the sender's.
const STREAM = {
  CODEBOOK: 3, SELECTION: 4, PERMUTATION: 5, SIGNS: 6, CANDIDATES: 9, PARTITION: 10,
};

// The upper 32 bits of a product of two words, from products of halves that fit a double.
function highOfProduct(a, b) {
  const aLow = a & 0xffff, aHigh = a >>> 16;
  const bLow = b & 0xffff, bHigh = b >>> 16;
  const first = aHigh * bLow + ((aLow * bLow) >>> 16);
  const second = aLow * bHigh + (first & 0xffff);
  return (aHigh * bHigh + (first >>> 16) + (second >>> 16)) >>> 0;
}

// Section 4.1: four words for a counter of four and a key of two; the last round's key differs
// from the first one's by nine increments.
function philox4x32(c0, c1, c2, c3, k0, k1, out = new Uint32Array(4), at = 0) {
  for (let round = 0; round < 10; round++) {
    const low0 = Math.imul(0xd2511f53, c0), high0 = highOfProduct(0xd2511f53, c0);
    const low1 = Math.imul(0xcd9e8d57, c2), high1 = highOfProduct(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
  return out;
}

// Section 4.2: words first, first + 1, ... of a row of a stream.
function streamWords(seed, stream, row, count, first = 0) {
  const begin = Math.floor(first / 4), end = Math.ceil((first + count) / 4);
  const words = new Uint32Array(4 * (end - begin));
  for (let block = begin; block < end; block++) {
    philox4x32(block, row, 0, 0, seed, stream, words, 4 * (block - begin));
  }
  return words.subarray(first - 4 * begin, first - 4 * begin + count);
}

// Section 7.2: the numbers below count, sorted by their words.  A word and its number make one key
// of 64 bits: so equal words keep their order.
function streamPermutation(seed, stream, row, count) {
  const keys = BigUint64Array.from(
    streamWords(seed, stream, row, count),
    (word, number) => (BigInt(word) << 32n) + BigInt(number),
  );
  return Uint32Array.from(keys.sort(), (key) => Number(key & 0xffffffffn));
}
