// The networks that have a number of their own, and their forward pass.  docs/SPEC.md, section 3.
"use strict";

const RELU = { kind: "relu" };
const POOL = { kind: "pool" };

function convolution(name, inputs, outputs) {
  return { kind: "convolution", name, shape: [5, 5, inputs, outputs], inputs, outputs };
}

function dense(name, inputs, outputs) {
  return { kind: "dense", name, shape: [inputs, outputs], inputs, outputs };
}

const NETWORKS = [
  {
    number: 1,
    name: "lenet5",
    layers: [
      convolution("conv1", 1, 20), POOL, RELU, convolution("conv2", 20, 50), POOL, RELU,
      dense("dense1", 800, 500), RELU, dense("dense2", 500, 10),
    ],
  },
  {
    number: 2,
    name: "lenet-300-100",
    layers: [
      dense("dense1", 784, 300), RELU, dense("dense2", 300, 100), RELU, dense("dense3", 100, 10),
    ],
  },
];

// The tensors of a network in the order of the file.  The outputs of a tensor are its last
// axis, its inputs the product of the others.
function tensorsOf(network) {
  let first = 0;

  function tensor(name, shape) {
    const size = shape.reduce((a, b) => a * b, 1);
    const outputs = shape[shape.length - 1];
    first += size;
    return { name, shape, size, first: first - size, outputs, inputs: size / outputs };
  }

  const named = network.named ?? network.layers.filter((layer) => layer.name).flatMap((layer) => [
    [`${layer.name}.weight`, layer.shape], [`${layer.name}.bias`, [layer.outputs]],
  ]);
  return named.map(([name, shape]) => tensor(name, shape));
}

// What is drawn has 28x28 pixels, and is one of ten digits.
function readsDigits({ number, image, classes }) {
  return number !== DESCRIBED || (image.join() === "1,28,28" && classes === 10);
}

// Pixels 0 to 255 as the network takes them.
function scalePixels(pixels) {
  return Float64Array.from(pixels, (pixel) => pixel / 255 - 0.5);
}

// Adds to each of side x side sums at `to` a weight times the value of a window of x at `from`.
function addWindow(y, to, side, weight, x, from, stride) {
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) y[to + i * side + j] += weight * x[from + i * stride + j];
  }
}

// Activations are flat, in the order channel, row, column; images are square.
function convolve(x, w, b, { inputs, outputs }) {
  const side = Math.sqrt(x.length / inputs), out = side - 4, size = out * out;
  const y = new Float64Array(outputs * size);
  for (let o = 0; o < outputs; o++) {
    y.fill(b[o], o * size, (o + 1) * size);
    for (let at = 0; at < 25 * inputs; at++) {
      const c = at % inputs, v = Math.floor(at / inputs) % 5, u = Math.floor(at / inputs / 5);
      addWindow(y, o * size, out, w[at * outputs + o], x, (c * side + u) * side + v, side);
    }
  }
  return y;
}

// The maximum of each 2x2 window.
function pool(x, channels) {
  const side = Math.sqrt(x.length / channels), half = side >> 1;
  return Float64Array.from({ length: channels * half * half }, (_, at) => {
    const c = Math.floor(at / (half * half)), i = Math.floor(at / half) % half, j = at % half;
    const corner = (c * side + 2 * i) * side + 2 * j;
    return Math.max(x[corner], x[corner + 1], x[corner + side], x[corner + side + 1]);
  });
}

// W^T x + b.
function multiply(x, w, b) {
  const y = Float64Array.from(b);
  for (let a = 0; a < x.length; a++) {
    for (let o = 0; o < y.length; o++) y[o] += w[a * y.length + o] * x[a];
  }
  return y;
}

// The logits of one image, its pixels in the order channel, row, column.
function logitsOf(network, weights, pixels) {
  const tensors = tensorsOf(network).values();

  function nextTensor() {
    const { first, size } = tensors.next().value;
    return weights.subarray(first, first + size);
  }

  if (network.number === DESCRIBED) {
    const image = { shape: network.image, values: scalePixels(pixels) };
    return passThrough(network.layers, image, nextTensor).values;
  }
  let x = scalePixels(pixels), channels = 1;
  for (const layer of network.layers) {
    if (layer.kind === "relu") x = x.map((value) => Math.max(value, 0));
    if (layer.kind === "pool") x = pool(x, channels);
    if (layer.kind === "convolution") x = convolve(x, nextTensor(), nextTensor(), layer);
    if (layer.kind === "dense") x = multiply(x, nextTensor(), nextTensor());
    channels = layer.outputs ?? channels;
  }
  return x;
}

// The class with the largest logit, the lowest of equals; -1, for none, where one is not finite.
function classOf(logits) {
  if (!logits.every(Number.isFinite)) return -1;
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
}
