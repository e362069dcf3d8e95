// The messages of codes 1 to 12: integers in a code word of a range coder.  docs/SPEC.md,
// section 2.7.
"use strict";

const HALF = 2 ** 15;
const LEAST_WIDTH = 2 ** 24;
const LARGEST_EXPONENT = 61;
const LARGEST_COUNT = 2 ** 20; // section 2.6

// Follows the interval [L, L + R) decision by decision.  Of C - L and R 32 bits are enough to
// read; L is kept too, as bytes already sent and 32 bits, because only one code word is valid.
function makeRangeDecoder(data) {
  let width = 2 ** 32 - 1, low = 0, window = 0, used = 4;
  const sent = [];

  function nextByte(at) {
    return at < data.length ? data[at] : 0;
  }

  for (let i = 0; i < 4; i++) window = window * 256 + nextByte(i);

  function carry() {
    let at = sent.length - 1;
    while (sent[at] === 255) sent[at--] = 0;
    sent[at] += 1;
  }

  // One decision, whose probability of being 1 is p / 2^16.
  function decide(p) {
    const bound = (width >>> 16) * p;
    const bit = window < bound ? 1 : 0;
    if (bit) {
      width = bound;
    } else {
      window -= bound;
      width -= bound;
      low += bound;
      if (low >= 2 ** 32) {
        low -= 2 ** 32;
        carry();
      }
    }
    while (width < LEAST_WIDTH) {
      sent.push(Math.floor(low / 2 ** 24));
      check(sent.length < data.length, "its integers are cut off");
      low = (low % 2 ** 24) * 256;
      width *= 256;
      window = window * 256 + nextByte(used++);
    }
    return bit;
  }

  // The shortest string of bytes of which every continuation lies in the interval.
  function codeWord() {
    let unit = 2 ** 24;
    let value = Math.ceil(low / unit);
    const short = (value + 1) * unit <= low + width;
    if (!short) {
      unit = 2 ** 16;
      value = Math.ceil(low / unit);
    }
    if (value * unit >= 2 ** 32) {
      value -= 2 ** 32 / unit;
      carry();
    }
    return short ? [...sent, value] : [...sent, value >> 8, value & 255];
  }

  return { decide, codeWord };
}

// The integers (BigInt) of a code word; raw: bits of each that are sent plainly.
function readIntegers(data, count, theta, raw) {
  check(count <= LARGEST_COUNT, `it has ${count} integers; expected at most ${LARGEST_COUNT}`);
  const { decide, codeWord } = makeRangeDecoder(data);

  function readBits(start, bits) {
    let value = start;
    for (let i = 0; i < bits; i++) value = 2n * value + BigInt(decide(HALF));
    return value;
  }

  const values = [];
  for (let i = 0; i < count; i++) {
    const j = readBits(0n, raw);
    let e = 0;
    while (decide(theta)) {
      e += 1;
      check(e + raw <= LARGEST_EXPONENT, "one of its integers is too large");
    }
    values.push((readBits(1n, e) << BigInt(raw)) + j);
  }
  const expected = codeWord();
  const same = expected.length === data.length && expected.every((byte, i) => byte === data[i]);
  check(same, "its bytes are not the code word of its integers");
  return values;
}
