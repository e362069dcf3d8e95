// SHA-256 (FIPS 180-4); the browser's own is not there for pages from the file system.
"use strict";

const SHA256_WORDS = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
  return {
    start: Uint32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p))),
    rounds: Uint32Array.from(primes, (p) => fraction(Math.cbrt(p))),
  };
})();

function rotate(x, n) {
  return (x >>> n) | (x << (32 - n));
}

// One block of sixteen words, the first of 64 in w.
function sha256Block(h, w) {
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15], y = w[t - 2];
    w[t] = w[t - 16] + w[t - 7] + (rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3))
      + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10));
  }
  let [a, b, c, d, e, f, g, k] = h;
  for (let t = 0; t < 64; t++) {
    const one = k + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g))
      + SHA256_WORDS.rounds[t] + w[t];
    const two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    k = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  [a, b, c, d, e, f, g, k].forEach((word, i) => { h[i] += word; });
}

// The digest as 64 hexadecimal digits.
function sha256(bytes) {
  const padded = new Uint8Array(64 * Math.ceil((bytes.length + 9) / 64));
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length * 8) >>> 0);
  const h = SHA256_WORDS.start.slice(), w = new Uint32Array(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    sha256Block(h, w);
  }
  return Array.from(h, (word) => word.toString(16).padStart(8, "0")).join("");
}
