// A whole .rmc file to the weights of its network: docs/SPEC.md, section 1.
"use strict";

// Section 8.3: the product is exact in float64, so Math.fround rounds it once.
function scaleNormal(pattern, z) {
  return Math.fround(float16(pattern) * z);
}

// The fields of a model, its variables, tensors one after another, and all its weights as one
// Float32Array.  `updates` is empty here: update.js adds to all this.
function decodeModel(bytes) {
  const file = readContainer(bytes);
  const normals = normalsAtPlaces(file);
  const layout = blockLayout(file);
  const variables = new Float32Array(file.variables);
  let variable = 0;
  layout.counts.forEach((count, t) => {
    for (const end = variable + count; variable < end; variable++) {
      variables[variable] = scaleNormal(file.rho[t], normals[layout.ofVariables[variable]]);
    }
  });
  const weights = weightsOfVariables(variables, layout);
  return { file, layout, updates: [], variables, crc: file.crc, weights };
}

function weightsOfVariables(variables, { ofVariables, places, signs }) {
  const placed = new Float32Array(variables.length);
  variables.forEach((value, variable) => { placed[ofVariables[variable]] = value; });
  return expandWeights(placed, places, signs);
}

// Weights as little-endian float32, which checksums are taken of.
function bytesOfWeights(weights) {
  const view = new DataView(new ArrayBuffer(4 * weights.length));
  weights.forEach((weight, i) => view.setFloat32(4 * i, weight, true));
  return new Uint8Array(view.buffer);
}
