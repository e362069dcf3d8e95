// A picture of the reader's own, as a described network takes it, and its likeliest classes.
"use strict";

const LARGEST_PICTURE = 2 ** 26; // bytes of a file
const MOST_BARS = 10;
const SLOWEST = 2 ** 30; // multiplications of a forward pass: some seconds

// What of a picture is shown in an image of other proportions: as much of its middle as fits.
function middleOf({ width, height }, columns, rows) {
  const scale = Math.min(width / columns, height / rows);
  const [w, h] = [columns * scale, rows * scale];
  return [(width - w) / 2, (height - h) / 2, w, h];
}

// Draws a picture in a canvas of the network's image; what is transparent becomes white.
function drawPicture(canvas, bitmap, [channels, rows, columns]) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, columns, rows);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, ...middleOf(bitmap, columns, rows), 0, 0, columns, rows);
  const image = context.getImageData(0, 0, columns, rows);
  if (channels === 1) makeGrey(image.data);
  context.putImageData(image, 0, 0);
  return planesOf(image.data, channels);
}

// Luma of ITU-R BT.601, as Pillow has it.
function makeGrey(data) {
  for (let at = 0; at < data.length; at += 4) {
    const grey = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
    data.fill(grey, at, at + 3);
  }
}

// Pixels 0 to 255 in the order channel, row, column.
function planesOf(data, channels) {
  const places = data.length / 4;
  return Uint8Array.from({ length: channels * places }, (_, at) => (
    data[4 * (at % places) + Math.floor(at / places)]));
}

// How many multiplications, or reads, a forward pass takes; `shape` is what is given.
function costOf(layers, shape) {
  return layers.reduce(({ shape: given, cost }, { kind, numbers, body, shortcut }) => {
    if (kind === "residual") {
      const [one, other] = [costOf(body, given), costOf(shortcut, given)];
      return { shape: one.shape, cost: cost + one.cost + other.cost + product(one.shape) };
    }
    const { shape: made, tensors } = PLACED[kind](given, numbers);
    const places = kind === "convolution" ? made[1] * made[2] : 1;
    const weights = tensors && kind !== "norm" ? product(tensors.weight) : 0;
    return { shape: made, cost: cost + product(given) + product(made) + places * weights };
  }, { shape, cost: 0 });
}

// Whether a forward pass would hold the page up: of a network that a file describes, it may.
function isSlow({ number, image, layers }) {
  return number === DESCRIBED && costOf(layers, image).cost > SLOWEST;
}

// Why a network cannot have a picture classified here, or nothing.
function unfitForPictures(network) {
  const { image } = network;
  if (image[0] !== 1 && image[0] !== 3) {
    return `Its images have ${grouped(image[0])} channels; those of a picture are one or three.`;
  }
  return isSlow(network) ? "It is decoded, but too large to be run in a page." : "";
}

// The part of the page with the picture; show(model) puts another network in its place.
function makePicturePart() {
  let model = null, bitmap = null, unfit = "";

  function showLikeliest(logits) {
    if (classOf(logits) < 0) {
      byId("picture-told").textContent = "A logit is not finite, so the network says no class.";
      return;
    }
    const p = probabilities(logits);
    const classes = Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, MOST_BARS);
    byId("picture-bars").replaceChildren(...classes.map((number) => {
      const row = barOf(number);
      row.classList.toggle("best", number === classes[0]);
      fillBar(row, p[number]);
      return row;
    }));
    byId("picture-told").textContent = `The network says class ${classes[0]} of ${p.length}, at`
      + ` ${fixed(100 * p[classes[0]], 1)} %.`;
  }

  function classify() {
    const { file: { network }, weights } = model;
    byId("picture-bars").replaceChildren();
    byId("picture-told").textContent = unfit || "Take a picture above.";
    if (!bitmap || unfit) return;
    showLikeliest(logitsOf(network, weights, drawPicture(byId("picture"), bitmap, network.image)));
  }

  async function take([chosen]) {
    if (!chosen) return;
    byId("picture-fault").textContent = "";
    try {
      check(chosen.size <= LARGEST_PICTURE, "it is larger than 64 MiB");
      const opened = await createImageBitmap(chosen, { colorSpaceConversion: "none" });
      bitmap?.close();
      bitmap = opened;
      classify();
    } catch (error) {
      const unreadable = error instanceof DOMException;
      if (!unreadable && !(error instanceof InvalidFileError)) throw error;
      byId("picture-fault").textContent = `${chosen.name}: ${unreadable
        ? "it is no picture that this browser can read" : error.message}`;
    }
  }

  function show(decoded) {
    model = decoded;
    const { network } = model.file, described = network.number === DESCRIBED;
    byId("picture-part").hidden = !described;
    if (!described) return;
    const [channels, rows, columns] = network.image;
    unfit = unfitForPictures(network);
    byId("own-picture").disabled = unfit !== "";
    byId("picture-size").textContent = `${grouped(columns)} \u00d7 ${grouped(rows)} pixels`
      + ` ${channels === 1 ? "of grey" : "in colour"}`;
    if (!unfit) Object.assign(byId("picture"), { width: columns, height: rows });
    classify();
  }

  byId("own-picture").addEventListener("change", (event) => take(event.target.files));
  return { show };
}
