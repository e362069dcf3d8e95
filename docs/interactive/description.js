// A network that its file describes: number 0.  docs/SPEC.md, section 3.1.
"use strict";

const DESCRIBED = 0;
const DESCRIPTION = {
  bytes: 4096, number: 2 ** 16 - 1, layers: 256, deepest: 4, values: 2 ** 24, weights: 2 ** 22,
};
// By opcode: the word that its tensors' names have, and how many numbers follow.
const KINDS = {
  1: { kind: "convolution", word: "conv", numbers: 6 },
  2: { kind: "dense", word: "dense", numbers: 1 },
  3: { kind: "flatten", numbers: 0 },
  4: { kind: "maximum", numbers: 0 },
  5: { kind: "mean", numbers: 2 },
  6: { kind: "norm", word: "norm", numbers: 1 },
  7: { kind: "relu", numbers: 0 },
  8: { kind: "residual", word: "stage" },
};

function product(sides) {
  return sides.reduce((a, b) => a * b, 1);
}

// Rules 1 to 3: the numbers, before any of them means something.
function readLayers(body, start) {
  let offset = start, layers = 0;

  function number() {
    let value;
    [value, offset] = readVarint(body, offset);
    check(offset - start <= DESCRIPTION.bytes, `it has more than ${DESCRIPTION.bytes} bytes`);
    check(value <= DESCRIPTION.number, `${value} is too large a number for it`);
    return value;
  }

  function list(depth) {
    const count = number();
    layers += count;
    check(layers <= DESCRIPTION.layers, `it has more than ${DESCRIPTION.layers} layers`);
    return Array.from({ length: count }, () => layer(depth));
  }

  function layer(depth) {
    const opcode = number(), known = KINDS[opcode];
    check(known, `opcode ${opcode} of a layer is unknown`);
    if (known.kind === "residual") {
      check(depth < DESCRIPTION.deepest, `residuals stand more than ${DESCRIPTION.deepest} deep`);
      return { ...known, body: list(depth + 1), shortcut: list(depth + 1) };
    }
    return { ...known, numbers: Array.from({ length: known.numbers }, number) };
  }

  const image = [number(), number(), number()], classes = number();
  return { image, classes, layers: list(0), offset };
}

// Rule 5: for each kind what it gives, and the shapes of its tensors by their names.
const PLACED = {
  convolution([channels, height, width], [kh, kw, stride, padding, groups, outputs]) {
    check(Math.min(kh, kw, stride, outputs) >= 1, "a convolution has a 0 in its numbers");
    check(padding < Math.min(kh, kw), "a convolution has more padding than its kernel allows");
    check((groups === 1 || groups === channels) && outputs % groups === 0,
      `a convolution of ${channels} channels cannot have ${groups} groups of ${outputs} outputs`);
    const rows = height + 2 * padding - kh, columns = width + 2 * padding - kw;
    check(Math.min(rows, columns) >= 0, "a kernel is larger than what it is given");
    check(channels * (rows + kh) * (columns + kw) <= DESCRIPTION.values,
      "a convolution puts zeros around that make more than 2^24 values");
    return {
      shape: [outputs, Math.floor(rows / stride) + 1, Math.floor(columns / stride) + 1],
      tensors: { weight: [kh, kw, channels / groups, outputs], bias: [outputs] },
    };
  },
  dense([inputs], [outputs]) {
    check(outputs >= 1, "a dense layer has no output");
    return { shape: [outputs], tensors: { weight: [inputs, outputs], bias: [outputs] } };
  },
  flatten: (shape) => ({ shape: [product(shape)] }),
  maximum: (shape) => PLACED.mean(shape, [2, 2]),
  mean([channels, height, width], [kh, kw]) {
    if (kh === 0 && kw === 0) return { shape: [channels, 1, 1] };
    check(kh >= 1 && kw >= 1 && kh <= height && kw <= width,
      `a window of ${kh} x ${kw} does not fit in maps of ${height} x ${width}`);
    return { shape: [channels, Math.floor(height / kh), Math.floor(width / kw)] };
  },
  norm([channels, height, width], [groups]) {
    check(groups >= 1 && channels % groups === 0,
      `${channels} channels cannot be normalised in ${groups} groups`);
    return { shape: [channels, height, width], tensors: { gain: [channels], bias: [channels] } };
  },
  relu: (shape) => ({ shape }),
};
const AXES = { convolution: 3, dense: 1, maximum: 3, mean: 3, norm: 3 };

// Rules 5 and 6: the names and shapes of all tensors, and the shape at the end.
function placeLayers({ layers, image }) {
  const named = [];
  let weights = 0;

  function place({ kind, numbers, body, shortcut }, shape, path) {
    if (kind === "residual") {
      const ends = [list(body, shape, `${path}body.`), list(shortcut, shape, `${path}shortcut.`)];
      check(ends[0].join() === ends[1].join(), "the two lists of a residual give other shapes");
      return ends[0];
    }
    check(shape.length === (AXES[kind] ?? shape.length), `a layer (${kind}) does not take what it`
      + ` is given: ${shape.length} axes`);
    const placed = PLACED[kind](shape, numbers);
    for (const [name, sides] of Object.entries(placed.tensors ?? {})) {
      weights += product(sides);
      check(weights <= DESCRIPTION.weights, "it has more than 2^22 weights");
      named.push([path + name, sides]);
    }
    check(product(placed.shape) <= DESCRIPTION.values, "a layer gives more than 2^24 values");
    return placed.shape;
  }

  function list(of, shape, path) {
    const seen = {};
    return of.reduce((before, layer) => {
      const { word } = layer;
      seen[word] = (seen[word] ?? 0) + 1;
      return place(layer, before, word ? `${path}${word}${seen[word]}.` : path);
    }, shape);
  }

  const end = list(layers, image, "");
  return { named, end };
}

// The network whose description begins at an offset, and the offset behind it.
function readDescription(body, start) {
  try {
    const read = readLayers(body, start);
    const { image, classes, offset } = read;
    check(product(image) >= 1 && product(image) <= DESCRIPTION.values,
      `images of ${image.join(" x ")} are out of range`);
    check(classes >= 2, `${classes} classes are out of range`);
    const { named, end } = placeLayers(read);
    check(named.length > 0, "it has no weights");
    check(end.length === 1 && end[0] === classes, `it ends with another shape than (${classes})`);
    const name = `a network of its own (${image.join(" x ")}, ${classes} classes)`;
    const { layers } = read;
    return [{ number: DESCRIBED, name, image, classes, layers, named }, offset];
  } catch (error) {
    if (!(error instanceof InvalidFileError)) throw error;
    throw new InvalidFileError(`network number ${DESCRIBED} with a wrong description:`
      + ` ${error.message}`);
  }
}
