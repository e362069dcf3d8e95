// The operations of the conformance suite (docs/CONFORMANCE.md), answered by the page's
// functions.  Arrays travel as the suite's JSON writes them: little-endian bytes in base64.
"use strict";

{ // so that no name here meets one of the page
  const ARRAYS = {
    uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int64: BigInt64Array,
    float32: Float32Array, float64: Float64Array,
  };
  const SAMPLE_STRIDE = 997;

  function read({ dtype, shape, base64 }) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return { data: new ARRAYS[dtype](bytes.buffer), shape };
  }

  function write(dtype, shape, values) {
    const wide = dtype === "int64" ? Array.from(values, BigInt) : values;
    const bytes = new Uint8Array(ARRAYS[dtype].from(wide).buffer);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return { dtype, shape, base64: btoa(text) };
  }

  const scalar = (value) => Number(value.data[0]);
  const numbers = (value) => Array.from(value.data, Number);
  const flat = (dtype, values) => write(dtype, [values.length], values);

  // The page draws these numbers itself; a question may hold any.
  function inRange(number, most, least = 0) {
    check(number >= least && number <= most, `${number} is not from ${least} to ${most}`);
    return number;
  }

  const LARGEST = 2 ** 32 - 1, ROW = 2 ** 34;
  const word = (value) => inRange(scalar(value), LARGEST);
  const words = (value) => numbers(value).map((number) => inRange(number, LARGEST));
  const bitsOf = (value, least = 1) => inRange(scalar(value), 24, least);

  function rowsOf({ data, shape }) {
    const width = shape[shape.length - 1];
    return Array.from({ length: shape[0] }, (_, i) => data.subarray(i * width, (i + 1) * width));
  }

  function layoutOfCase(factors, grouping, signs, seed) {
    const tensors = tensorsOf(NETWORKS[0]);
    return {
      tensors, factors: numbers(factors).map((f, t) => inRange(f, tensors[t].size, 1)),
      grouping: inRange(scalar(grouping), 1), signs: inRange(scalar(signs), 2), seed: word(seed),
    };
  }

  function digestOf({ weights }) {
    const digest = sha256(bytesOfWeights(weights)).match(/../g).map((hex) => parseInt(hex, 16));
    const sample = weights.filter((_, i) => i % SAMPLE_STRIDE === 0);
    return [flat("uint8", digest), flat("float32", sample)];
  }

  const OPERATIONS = {
    philox4x32: (counter, key) => {
      const words = rowsOf(counter).flatMap((c) => [...philox4x32(...c, ...key.data)]);
      return [write("uint32", counter.shape, words)];
    },
    stream_words: (seed, stream, row, first, count) => {
      const start = inRange(scalar(first), ROW), size = inRange(scalar(count), ROW - start);
      return [flat("uint32", streamWords(word(seed), word(stream), word(row), size, start))];
    },
    stream_permutation: (seed, stream, row, count) => [flat("int64",
      streamPermutation(word(seed), word(stream), word(row), word(count)))],
    pack_indices: (indices, bits) => [flat("uint8", packIndices(numbers(indices), bitsOf(bits)))],
    unpack_indices: (payload, bits, count) => [flat("int64",
      unpackIndices(payload.data, bitsOf(bits), word(count)))],
    read_integers: (payload, count, theta, raw) => [flat("int64", readIntegers(
      payload.data, word(count), inRange(scalar(theta), 65535, 1), inRange(scalar(raw), 24)))],
    read_container: (data) => {
      const file = readContainer(data.data);
      return [
        ...[file.network.number, file.grouping, file.signs, file.bits, file.blockSize, file.seed]
          .map((value) => write("int64", [], [value])),
        flat("int64", file.factors), flat("uint16", file.rho), flat("int64", file.messages),
      ];
    },
    describe_file: (data) => {
      const file = readContainer(data.data);
      return [
        file.network.number, file.grouping, file.signs, file.code, file.bits, file.theta ?? 0,
        file.blockSize, file.seed,
      ].map((value) => write("int64", [], [value])).concat(
        flat("int64", file.factors), flat("uint16", file.rho), flat("int64", file.messages));
    },
    block_layout: (blockSize, seed, factors, grouping, signs, weights) => {
      const said = layoutOfCase(factors, grouping, signs, seed);
      inRange(scalar(blockSize), sum(variablesOf(said.tensors, said.factors)), 1);
      const layout = blockLayout(said);
      const chosen = numbers(weights).map((i) => inRange(i, layout.places.length - 1));
      return [layout.places, layout.signs].map((all) => flat("int64", chosen.map((i) => all[i])));
    },
    normal_quantile: (p) => [write("float64", p.shape, p.data.map(normalQuantile))],
    codebook: (seed, indices, dimension) => [write("float32",
      [indices.data.length, scalar(dimension)],
      codebookRows(word(seed), words(indices), scalar(dimension)))],
    decode_blocks: (seed, indices, dimension, rho) => {
      const z = codebookRows(word(seed), words(indices), scalar(dimension));
      return [write("float32", rho.shape, z.map((value, i) => scaleNormal(rho.data[i], value)))];
    },
    partition_rows: (seed, bits, blocks, messages, dimension) => [write("float32",
      [blocks.data.length, scalar(dimension)],
      partitionRows(word(seed), bitsOf(bits, 0), words(blocks), [...messages.data],
        scalar(dimension)))],
    variable_samples: (code, seed, rows, messages) => [flat("float32",
      variableSamples(inRange(scalar(code), 12, 4), word(seed), words(rows), messages.data))],
    expand_hash: (variables, places, signs) => [flat("float64",
      expandWeights(variables.data, numbers(places), numbers(signs)))],
    log_s: (x) => [write("float64", x.shape, x.data.map(solveLogS))],
    gaussian_kl: (delta, logS) => [write("float64", delta.shape,
      delta.data.map((value, i) => gaussianKl(value, logS.data[i])))],
    log_weights: (candidates, delta, logS) => {
      const logSs = rowsOf(logS);
      const values = rowsOf(delta)
        .flatMap((d, i) => [...logWeightsOf(candidates.data, d, logSs[i])]);
      return [write("float64", [delta.shape[0], candidates.shape[0]], values)];
    },
    select_indices: (seed, bits, blocks, delta, logS) => {
      const logSs = rowsOf(logS);
      return [flat("int64", rowsOf(delta).map((d, i) => selectIndex(
        word(seed), bitsOf(bits), words(blocks)[i], d, logSs[i]).index))];
    },
    images: ({ data, shape: [count, height, width] }) => {
      const x = scalePixels(data), size = height * width;
      const values = x.map((_, at) => x[(at % count) * size + Math.floor(at / count)]);
      return [write("float64", [1, height, width, count], values)];
    },
    decode_model: (data) => digestOf(decodeModel(data.data)),
    decode_chain: (data, sizes) => {
      let first = 0;
      const files = numbers(sizes).map((size) => {
        first += inRange(size, data.data.length - first);
        return data.data.subarray(first - size, first);
      });
      check(files.length > 0 && first === data.data.length, "the files do not make up the data");
      return digestOf(decodeChain(files));
    },
    predict: (data, images) => {
      const { file, weights } = decodeModel(data.data);
      const { number, image, classes } = file.network;
      const [count, ...axes] = images.shape, size = images.data.length / count;
      check(axes.join() === (number === DESCRIBED ? image : [28, 28]).join(), "images do not fit");
      const logits = Array.from({ length: count }, (_, n) => logitsOf(
        file.network, weights, images.data.subarray(n * size, (n + 1) * size)));
      return [
        write("float64", [classes ?? 10, count], logits[0].reduce(
          (all, _, k) => [...all, ...logits.map((l) => l[k])], [])),
        flat("int64", logits.map(classOf)),
      ];
    },
  };

  // A refusal is one line; anything else that is thrown is a fault of the code.
  globalThis.answer = (operation, inputs) => {
    try {
      return { outputs: OPERATIONS[operation](...inputs.map(read)) };
    } catch (error) {
      if (error instanceof InvalidFileError) return { refused: error.message };
      throw error;
    }
  };
}
