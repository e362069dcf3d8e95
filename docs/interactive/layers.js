// The forward pass of a network that its file describes.  docs/SPEC.md, section 3.2.
"use strict";

// Activations are flat, in the order channel, row, column; `shape` has one axis or three.  `next`
// gives the tensors of the file, one after the other.
const FORWARD = {
  convolution({ shape: [channels, height, width], values }, numbers, next) {
    const [kh, kw, stride, padding, groups, outputs] = numbers;
    const w = next(), b = next(), fan = channels / groups;
    const shape = PLACED.convolution([channels, height, width], numbers).shape;
    const [, rows, columns] = shape;

    function sum(o, top, left) {
      const first = Math.floor(o / (outputs / groups)) * fan;
      let total = b[o];
      for (let u = Math.max(0, -top); u < Math.min(kh, height - top); u++) {
        for (let v = Math.max(0, -left); v < Math.min(kw, width - left); v++) {
          for (let c = 0; c < fan; c++) {
            total += w[((u * kw + v) * fan + c) * outputs + o]
              * values[((first + c) * height + top + u) * width + left + v];
          }
        }
      }
      return total;
    }

    return { shape, values: Float64Array.from({ length: product(shape) }, (_, at) => sum(
      Math.floor(at / (rows * columns)),
      Math.floor(at / columns) % rows * stride - padding, at % columns * stride - padding)) };
  },
  dense: ({ values }, [outputs], next) => ({
    shape: [outputs], values: multiply(values, next(), next()),
  }),
  flatten: ({ shape, values }) => ({ shape: [product(shape)], values }),
  maximum: (x) => overWindows(x, [2, 2], (window) => Math.max(...window)),
  mean: (x, [kh, kw]) => overWindows(x, kh === 0 ? x.shape.slice(1) : [kh, kw], meanOf),
  norm({ shape, values }, [groups], next) {
    const gain = next(), bias = next(), places = shape[1] * shape[2];
    const size = values.length / groups, out = new Float64Array(values.length);
    for (let first = 0; first < values.length; first += size) {
      const part = values.subarray(first, first + size), mean = meanOf(part);
      const deviation = Math.sqrt(meanOf(part.map((x) => (x - mean) ** 2)) + 1e-5);
      const root = Number.isFinite(deviation) ? deviation : NaN;  // no class
      part.forEach((x, i) => {
        const channel = Math.floor((first + i) / places);
        out[first + i] = (1 + gain[channel]) * (x - mean) / root + bias[channel];
      });
    }
    return { shape, values: out };
  },
  relu: ({ shape, values }) => ({ shape, values: values.map((x) => Math.max(x, 0)) }),
};

function meanOf(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

// A function of each window, side by side from the top left.
function overWindows({ shape: [channels, height, width], values }, [kh, kw], summary) {
  const rows = Math.floor(height / kh), columns = Math.floor(width / kw);
  const window = new Float64Array(kh * kw);
  return {
    shape: [channels, rows, columns],
    values: Float64Array.from({ length: channels * rows * columns }, (_, at) => {
      const c = Math.floor(at / (rows * columns)), i = Math.floor(at / columns) % rows;
      for (let k = 0; k < window.length; k++) {
        const row = i * kh + Math.floor(k / kw), column = at % columns * kw + k % kw;
        window[k] = values[(c * height + row) * width + column];
      }
      return summary(window);
    }),
  };
}

// Passes activations through a list of layers.
function passThrough(layers, x, next) {
  return layers.reduce((before, { kind, numbers, body, shortcut }) => {
    if (kind !== "residual") return FORWARD[kind](before, numbers, next);
    const { shape, values } = passThrough(body, before, next);
    const other = passThrough(shortcut, before, next).values;
    return { shape, values: values.map((value, i) => value + other[i]) };
  }, x);
}
