// Which variable, at which place and with which sign, stands for each weight.  docs/SPEC.md,
// sections 7.1, 7.2 and 8.
"use strict";

// The place of each variable: the permutation maps places to variables (section 7.2).
function placesOfVariables(seed, variables) {
  const places = new Uint32Array(variables);
  streamPermutation(seed, STREAM.PERMUTATION, 0, variables)
    .forEach((variable, place) => { places[variable] = place; });
  return places;
}

// Section 8.2: the signs of a tensor, to be read cyclically.
function signsOfTensor(tensor, number, { factors, signs, seed }) {
  if (factors[number] === 1 || SIGNS[signs] === "NONE") return Int8Array.of(1);
  const count = SIGNS[signs] === "UNIT" ? tensor.outputs : tensor.size;
  return Int8Array.from(streamWords(seed, STREAM.SIGNS, number, count),
    (word) => (word >>> 31 ? -1 : 1));
}

// The place of the variable of each weight of the network, and its sign; and the place of each
// variable.  `layout` has tensors, factors, grouping, signs and seed.
function blockLayout(layout) {
  const { tensors, factors, grouping, seed } = layout;
  const counts = variablesOf(tensors, factors);
  const ofVariables = placesOfVariables(seed, sum(counts));
  const weights = sum(tensors.map((tensor) => tensor.size));
  const places = new Uint32Array(weights), signs = new Int8Array(weights);
  let firstVariable = 0;
  tensors.forEach((tensor, t) => {
    const { size, first, inputs, outputs } = tensor;
    const cycle = signsOfTensor(tensor, t, layout);
    for (let i = 0; i < size; i++) {
      const n = GROUPING[grouping] === "OUTPUTS"
        ? i : (i % outputs) * inputs + Math.floor(i / outputs); // section 8.1
      places[first + i] = ofVariables[firstVariable + Math.floor(n / factors[t])];
      signs[first + i] = cycle[i % cycle.length];
    }
    firstVariable += counts[t];
  });
  return { places, signs, ofVariables, counts };
}

// Section 8: each weight is its variable or the negative of it.
function expandWeights(variables, places, signs) {
  const weights = new variables.constructor(places.length);
  for (let i = 0; i < weights.length; i++) weights[i] = signs[i] * variables[places[i]];
  return weights;
}
