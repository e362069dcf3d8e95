// The second part of the page: a file is decoded, and reads what the reader draws.
"use strict";

{
  let model = null, pixels = null;
  const pictures = makePicturePart();

  const decodeBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const digits = decodeBase64(DIGITS.base64);

  // --- the file

  function showModel(bytes, name) {
    const start = performance.now();
    const decoded = decodeModel(bytes);
    const time = Math.ceil(performance.now() - start);
    model = decoded;
    const { file, layout, weights } = decoded;
    const digest = sha256(bytesOfWeights(weights));
    showSteps(byId("steps"), stepsOf(decoded, bytes));
    showFields(byId("fields"), fieldsOf(file));
    showTensors(byId("tensors"), file, layout);
    byId("took").textContent = `All this has just taken ${time} ms in this browser.`;
    byId("digest").textContent = digest;
    byId("same").textContent = digest === MODEL.sha256OfWeights
      ? "The same as in the Python package: every bit of every weight agrees." : "";
    byId("which").textContent = `${name}, ${grouped(bytes.length)} bytes for`
      + ` ${grouped(weights.length)} weights of ${file.network.name}`;
    byId("digit-part").hidden = !readsDigits(file.network);
    pictures.show(decoded);
    classify();
  }

  function showShipped() {
    byId("own-file").value = "";
    byId("fault").textContent = "";
    showModel(decodeBase64(MODEL.base64), MODEL.name);
  }

  // A file of the reader's own; an invalid one leaves the network before it in use.
  async function showOwn([chosen]) {
    if (!chosen) return;
    byId("fault").textContent = "";
    try {
      check(chosen.size <= LARGEST_FILE,
        `it is larger than ${grouped(LARGEST_FILE)} bytes, so it is no .rmc file`);
      showModel(new Uint8Array(await chosen.arrayBuffer()), chosen.name);
    } catch (error) {
      const unreadable = error instanceof DOMException;
      if (!unreadable && !(error instanceof InvalidFileError)) throw error;
      byId("fault").textContent = `${chosen.name}: ${unreadable ? "it cannot be read"
        : error.message}`;
    }
  }

  // --- the digit

  function showBars(logits) {
    const p = logits ? probabilities(logits) : new Array(10).fill(0);
    const best = logits ? classOf(logits) : -1;
    byId("bars").querySelectorAll("tr").forEach((row, digit) => {
      row.classList.toggle("best", digit === best);
      fillBar(row, logits ? p[digit] : null);
    });
    byId("verdict").textContent = logits ? best : "\u2013";
    byId("told").textContent = logits
      ? `The network reads a ${best}, at ${fixed(100 * p[best], 1)} %.`
      : "Draw a digit, or take one below.";
  }

  function classify() {
    showPixels(byId("seen"), pixels ?? new Uint8Array(SIDE * SIDE));
    const { file: { network }, weights } = model;
    showBars(pixels && readsDigits(network) ? logitsOf(network, weights, pixels) : null);
  }

  const pad = makePad(byId("pad"), () => {
    pixels = imageOfStrokes(pad.strokes(), INK_WIDTH);
    classify();
  });

  function clear() {
    pixels = null;
    pad.show();
    classify();
  }

  function addDigit(label, number) {
    const button = document.createElement("button");
    const picture = document.createElement("canvas");
    const own = digits.subarray(number * SIDE * SIDE, (number + 1) * SIDE * SIDE);
    picture.width = picture.height = SIDE;
    showPixels(picture, own);
    button.type = "button";
    button.setAttribute("aria-label", `Test digit ${number}, a ${label}`);
    button.append(picture);
    button.addEventListener("click", () => {
      pixels = own;
      pad.show(picture);
      classify();
    });
    byId("digits").append(button);
  }

  for (let digit = 0; digit < 10; digit++) byId("bars").append(barOf(digit));
  DIGITS.labels.forEach(addDigit);
  byId("clear").addEventListener("click", clear);
  byId("shipped").addEventListener("click", showShipped);
  byId("own-file").addEventListener("change", (event) => showOwn(event.target.files));
  showShipped();
}
