// What both figures are drawn with: elements of SVG, and the axis of a weight in units of rho.
"use strict";

const RANGE = 4.2; // the axis shows -RANGE to RANGE

function svgElement(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

// The place of a weight on an axis of so many pixels.
function toPixels(z, width) {
  return ((z + RANGE) / (2 * RANGE)) * width;
}

function pathThrough(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

// Adds the axis, with its numbers below y.
function drawAxis(svg, width, y) {
  svg.append(svgElement("line", { class: "axis", x1: 0, x2: width, y1: y, y2: y }));
  for (let z = -4; z <= 4; z++) {
    const x = toPixels(z, width);
    svg.append(
      svgElement("line", { class: "axis", x1: x, x2: x, y1: y, y2: y + 5 }),
      svgElement("text", { x, y: y + 19, "text-anchor": "middle" }, fixed(z, 0)),
    );
  }
}

// Empties an SVG and makes it as wide as its box, so that text keeps its size.
function startDrawing(svg, height) {
  const width = Math.max(240, svg.parentElement.clientWidth - 26);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  return width;
}

// A number with so many decimals and a true minus sign.
function fixed(value, decimals) {
  return value.toFixed(decimals).replace(/^-(?=.*[1-9])/, "\u2212").replace(/^-/, "");
}

function percent(share) {
  if (share > 0 && share < 0.001) return "under 0.1 %";
  return `${fixed(100 * share, share < 0.0995 ? 1 : 0)} %`;
}

function grouped(count) {
  return count.toLocaleString("en-US");
}

function byId(id) {
  return document.getElementById(id);
}
