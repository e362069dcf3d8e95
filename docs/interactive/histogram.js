// The figure of many draws: which samples come of many seeds, against Q.
"use strict";

const BINS = 84; // of a tenth of rho
const PARTS = 20; // of Q, of equal mass: where its draws are counted to measure a bias
const TALL = { top: 8, bottom: 150 };

// The standard normal's distribution function, to 1e-7 (Abramowitz and Stegun 7.1.26).
function normalCdf(x) {
  const t = 1 / (1 + (0.3275911 * Math.abs(x)) / Math.SQRT2);
  const series = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0];
  const tail = 0.5 * polynomial(series, t) * Math.exp(-0.5 * x * x);
  return x < 0 ? tail : 1 - tail;
}

function edgeOfBin(i) {
  return -RANGE + (2 * RANGE * i) / BINS;
}

// What share of exact draws of Q falls in each bin.
function sharesOfQ(delta, sigma) {
  return Array.from({ length: BINS }, (_, i) => normalCdf((edgeOfBin(i + 1) - delta) / sigma)
    - normalCdf((edgeOfBin(i) - delta) / sigma));
}

function binOf(z) {
  return Math.min(BINS - 1, Math.max(0, Math.floor(((z + RANGE) / (2 * RANGE)) * BINS)));
}

function partOf(z, { delta, sigma }) {
  return Math.min(PARTS - 1, Math.floor(PARTS * normalCdf((z - delta) / sigma)));
}

// The mass by which counts of the parts of Q differ from Q: half the sum of differences.
function massApart(counts) {
  const total = sum(counts);
  return 0.5 * sum(counts.map((count) => Math.abs(count / total - 1 / PARTS)));
}

// By how much those of so many exact draws would: each share is nearly normal about 1 / PARTS,
// with a mean deviation of sqrt(2 / pi) standard deviations.
function massByChance(total) {
  const variance = (1 - 1 / PARTS) / (PARTS * total);
  return 0.5 * PARTS * Math.sqrt((2 / Math.PI) * variance);
}

// `counts` are of the bins; their sum is not zero.
function drawHistogram(svg, counts, { delta, sigma }) {
  const { top, bottom } = TALL;
  const width = startDrawing(svg, 178);
  const expected = sharesOfQ(delta, sigma), total = sum(counts);
  const found = counts.map((count) => count / total);
  const largest = Math.max(...expected, ...found);
  const heightOf = (share) => bottom - (share / largest) * (bottom - top);
  let bars = "";
  found.forEach((share, i) => {
    if (!share) return;
    const left = toPixels(edgeOfBin(i), width), right = toPixels(edgeOfBin(i + 1), width);
    bars += `M${left + 0.5} ${bottom}V${heightOf(share)}H${right - 0.5}V${bottom}Z`;
  });
  const steps = expected.flatMap((share, i) => [
    [toPixels(edgeOfBin(i), width), heightOf(share)],
    [toPixels(edgeOfBin(i + 1), width), heightOf(share)],
  ]);
  svg.append(
    svgElement("path", { class: "bars", d: bars }),
    svgElement("path", { class: "q line", d: pathThrough(steps) }),
  );
  drawAxis(svg, width, bottom);
}
