// From a word to a standard normal: docs/SPEC.md, sections 5 and 6.
//
// JavaScript's numbers are float64, and + - * / and Math.sqrt round each result once to the
// nearest: just what section 6.1 asks for.  There is no fused multiply-add to switch off.
"use strict";

const LARGEST_U = 1 - 2 ** -53;

// Section 6.3: numerators and denominators, highest power first.
const AS241 = {
  A: [
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
    4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
    1.3314166789178437745e2, 3.3871328727963666080e0,
  ],
  B: [
    5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
    2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
    4.2313330701600911252e1, 1,
  ],
  C: [
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
    1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
    4.63033784615654529590e0, 1.42343711074968357734e0,
  ],
  D: [
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
    1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
    2.05319162663775882187e0, 1,
  ],
  E: [
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
    2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
    5.46378491116411436990e0, 6.65790464350110377720e0,
  ],
  F: [
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
    7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
    5.99832206555887937690e-1, 1,
  ],
};
// Section 6.2.
const LOG_SERIES = [21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1].map((k) => 1 / k);
const SQRT_HALF = 0.7071067811865476;
const LN2 = 0.6931471805599453;

const bitsOfDouble = new DataView(new ArrayBuffer(8));

function polynomial(coefficients, x) {
  let value = coefficients[0];
  for (let k = 1; k < coefficients.length; k++) value = value * x + coefficients[k];
  return value;
}

// Section 6.2: the logarithm.  p = m 2^e is taken apart by its bits.
function logarithm(p) {
  const subnormal = p < 2 ** -1022;
  bitsOfDouble.setFloat64(0, subnormal ? p * 2 ** 54 : p);
  const high = bitsOfDouble.getUint32(0);
  let e = (high >>> 20) - 1022 - (subnormal ? 54 : 0);
  bitsOfDouble.setUint32(0, (high & 0x000fffff) | 0x3fe00000);
  let m = bitsOfDouble.getFloat64(0);
  if (m < SQRT_HALF) {
    m = m + m;
    e = e - 1;
  }
  const f = (m - 1) / (m + 1);
  return 2 * f * polynomial(LOG_SERIES, f * f) + e * LN2;
}

// Section 6.3: the quantile of the standard normal, for 0 < p < 1.
function normalQuantile(p) {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return q * (polynomial(AS241.A, r) / polynomial(AS241.B, r));
  }
  const r = Math.sqrt(-logarithm(q < 0 ? p : 1 - p));
  const z = r <= 5
    ? polynomial(AS241.C, r - 1.6) / polynomial(AS241.D, r - 1.6)
    : polynomial(AS241.E, r - 5) / polynomial(AS241.F, r - 5);
  return q < 0 ? -z : z;
}

// Section 5: the uniform of a word, and that of 52 bits of two words.
function uniform(word) {
  return (word + 0.5) * 2 ** -32;
}

function uniform52(w0, w1) {
  return (w0 * 2 ** 20 + (w1 >>> 12) + 0.5) * 2 ** -52;
}

// Sections 5 and 6: the float32 normal of a word.
function normalOfWord(word) {
  return Math.fround(normalQuantile(uniform(word)));
}
