// One Gaussian weight: Mean-KL, and minimal random coding of it.  docs/derivations.md, sections
// 1 to 3 and 8; everything is whitened by P, so mu and sigma are in units of rho.
"use strict";

const FACTORIALS = [1];
for (let k = 1; k <= 17; k++) FACTORIALS.push(k * FACTORIALS[k - 1]);

// exp(-y) - 1 + y; near 0, where these cancel, its series y^2/2 - y^3/6 + ...
function expExcess(y) {
  if (Math.abs(y) >= 0.5) return Math.expm1(-y) + y;
  let series = 0;
  for (let k = 17; k >= 2; k--) series = series * -y + 1 / FACTORIALS[k];
  return y * y * series;
}

// log s(x): the solution s <= 1 of s - 1 - log s = x^2, by Newton's method (15) for y = -log s.
function solveLogS(x) {
  if (x < 1e-8) return -(Math.SQRT2 * x + (x * x) / 3);
  let y = Math.SQRT2 * x + x * x;
  for (let step = 0; step < 6; step++) y -= (expExcess(y) - x * x) / -Math.expm1(-y);
  return -y;
}

// (3), in nats.
function gaussianKl(delta, logS) {
  return 0.5 * (delta * delta + expExcess(-logS));
}

// (5): how far a mean can lie from that of P, with so many nats.
function farthestMean(kappa) {
  return Math.sqrt(2 * kappa);
}

// (7): log s of a weight of kappa nats with its mean at delta.
function logVariance(delta, kappa) {
  return solveLogS(Math.sqrt(Math.max(0, 2 * kappa - delta * delta)));
}

// (34a): log q(z) / p(z), summed over dimensions, for each candidate z (one after another).
function logWeightsOf(candidates, delta, logS) {
  const dimension = delta.length, excess = Array.from(logS, (l) => Math.expm1(-l)); // 1/s - 1
  const logWeights = new Float64Array(candidates.length / dimension);
  for (let k = 0; k < logWeights.length; k++) {
    for (let i = 0; i < dimension; i++) {
      const d = delta[i], y = candidates[k * dimension + i] - d;
      logWeights[k] += 0.5 * d * d + y * (d - 0.5 * y * excess[i]) - 0.5 * logS[i];
    }
  }
  return logWeights;
}

// Section 8.2: -log(-log u) for each candidate of a block.  The stream is the sender's.
function gumbels(seed, block, count) {
  const words = new Float64Array(streamWords(seed, STREAM.SELECTION, block, count));
  return words.map((word) => -Math.log(-Math.log(uniform(word))));
}

// (35): the candidate with the largest sum; of equals the lowest.
function gumbelMax(logWeights, noise) {
  let best = 0;
  for (let k = 1; k < noise.length; k++) {
    if (logWeights[k] + noise[k] > logWeights[best] + noise[best]) best = k;
  }
  return best;
}

// Section 8.1: all 2^bits candidates of a block, their log-weights, and the index drawn.
function selectIndex(seed, bits, block, delta, logS) {
  for (const all of [delta, logS]) check(all.every(Number.isFinite), "Q is not finite");
  const count = 2 ** bits, dimension = delta.length;
  const candidates = codebookRows(seed, new Uint32Array(count).map((_, k) => k), dimension);
  const logWeights = logWeightsOf(candidates, delta, logS);
  return { candidates, logWeights, index: gumbelMax(logWeights, gumbels(seed, block, count)) };
}

// (33): weights that sum to 1.
function shares(logWeights) {
  const largest = logWeights.reduce((a, b) => Math.max(a, b));
  const weights = logWeights.map((l) => Math.exp(l - largest));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
}
