// The figure of one draw: P, Q, the candidates with their weights, and the one that is chosen.
"use strict";

const CURVES = { top: 10, bottom: 116 };
const STEMS = { top: 146, bottom: 240 };
const LISTED = 10;

// The bell of a normal, its top at 1; finer about its middle, however narrow it is.
function bellPoints(mean, width) {
  const xs = [];
  for (let i = 0; i <= 200; i++) {
    xs.push(-RANGE + (2 * RANGE * i) / 200, mean + width * (i - 100) * 0.05);
  }
  return xs.filter((x) => Math.abs(x) <= RANGE).sort((a, b) => a - b)
    .map((x) => [x, Math.exp(-0.5 * ((x - mean) / width) ** 2)]);
}

function drawBell(svg, width, name, mean, sigma, tall) {
  const { top, bottom } = CURVES;
  const line = bellPoints(mean, sigma).map(
    ([x, y]) => [toPixels(x, width), bottom - tall * y * (bottom - top)],
  );
  const path = pathThrough(line);
  svg.append(
    svgElement("path", { class: `${name} area`, d: `${path}L${width} ${bottom}L0 ${bottom}Z` }),
    svgElement("path", { class: `${name} line`, d: path }),
  );
}

// All candidates as ticks below the axis; those with weight worth a pixel as stems above.
function drawStems(svg, width, { candidates, shares, index }) {
  const { top, bottom } = STEMS;
  const largest = Math.max(...shares);
  let ticks = "", stems = "", heads = "";
  candidates.forEach((z, k) => {
    const x = toPixels(z, width).toFixed(2);
    const tall = (shares[k] / largest) * (bottom - top);
    ticks += `M${x} ${bottom + 2}v8`;
    if (tall < 0.5) return;
    stems += `M${x} ${bottom}V${(bottom - tall).toFixed(2)}`;
    heads += `M${x} ${(bottom - tall).toFixed(2)}h0`;
  });
  const many = candidates.length > 300 ? " many" : "";
  svg.append(
    svgElement("path", { class: `ticks${many}`, d: ticks }),
    svgElement("path", { class: `stems${many}`, d: stems }),
    svgElement("path", { class: `heads${many}`, d: heads }),
  );
  const x = toPixels(candidates[index], width);
  const y = bottom - (shares[index] / largest) * (bottom - top);
  svg.append(
    svgElement("line", { class: "chosen", x1: x, x2: x, y1: CURVES.top, y2: bottom + 10 }),
    svgElement("circle", { class: "chosen", cx: x, cy: y, r: 6 }),
  );
}

function drawCandidates(svg, draw) {
  const width = startDrawing(svg, 276);
  drawBell(svg, width, "p", 0, 1, 0.45);
  drawBell(svg, width, "q", draw.delta, draw.sigma, 1);
  svg.append(svgElement("line", {
    class: "axis", x1: 0, x2: width, y1: CURVES.bottom, y2: CURVES.bottom,
  }));
  drawStems(svg, width, draw);
  drawAxis(svg, width, STEMS.bottom + 12);
  const z = draw.candidates[draw.index], outwards = draw.delta < 0 ? -1 : 1;
  labelAt(svg, width, draw.delta, CURVES.top + 10, 14 * outwards, "Q", "q");
  labelAt(svg, width, -1.3 * outwards, CURVES.bottom - 34, 0, "P", "p");
  labelAt(svg, width, z, STEMS.top - 10, z < 0 ? 8 : -8, `index ${draw.index}`, "picked");
  svg.setAttribute("aria-label", describe(draw));
}

// A label beside a place, so many pixels to the right of it.
function labelAt(svg, width, z, y, gap, text, name) {
  const anchor = gap < 0 ? "end" : "start", x = toPixels(z, width) + gap;
  svg.append(svgElement("text", { class: `label ${name}`, x, y, "text-anchor": anchor }, text));
}

function describe({ delta, sigma, candidates, shares, index }) {
  return `P has mean 0 and width 1. Q has mean ${fixed(delta, 2)} and width ${fixed(sigma, 3)}.`
    + ` ${grouped(candidates.length)} candidates are drawn from P. Number ${index} is chosen:`
    + ` it lies at ${fixed(candidates[index], 3)} and has ${percent(shares[index])} of the weight.`;
}

// The likeliest candidates in numbers, and the chosen one wherever it stands.
function listCandidates(body, { candidates, logWeights, shares, index }) {
  const order = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a] || a - b);
  const listed = order.slice(0, LISTED);
  if (!listed.includes(index)) listed.push(index);
  body.replaceChildren(...listed.map((k) => {
    const row = document.createElement("tr");
    const cells = [
      k, fixed(candidates[k], 4), fixed(logWeights[k] / LN2, 2), percent(shares[k]),
      k === index ? "chosen" : "",
    ];
    cells.forEach((text) => { row.insertCell().textContent = text; });
    row.classList.toggle("is-chosen", k === index);
    return row;
  }));
}
