// The second part of the page: a file is decoded, and reads what the reader draws.
"use strict";

{
  // The decoded model and what each update makes of it, first to last; their names; which of these
  // reads digits.
  let states = [], names = [], used = 0, pixels = null;
  const pictures = makePicturePart();

  const canRead = (network) => readsDigits(network) && !isSlow(network);
  const decodeBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const digits = decodeBase64(DIGITS.base64);

  // --- the file

  const shipped = { name: MODEL.name, bytes: decodeBase64(MODEL.base64) };
  const update = UPDATE && { name: UPDATE.name, bytes: decodeBase64(UPDATE.base64) };

  // All states of a chain; an error names the file.
  function decodeFiles(chain) {
    return chain.reduce((before, { name, bytes }, i) => {
      try {
        return [...before, i ? applyUpdate(before[i - 1], bytes) : decodeModel(bytes)];
      } catch (error) {
        if (!(error instanceof InvalidFileError)) throw error;
        throw new InvalidFileError(`${name}: ${error.message}`);
      }
    }, []);
  }

  function knownDigest(digest) {
    return digest === MODEL.sha256OfWeights || digest === UPDATE?.sha256OfWeights
      ? "The same as in the Python package: every bit of every weight agrees." : "";
  }

  function showUpdates() {
    const last = states[states.length - 1], own = names.slice(1);
    byId("updates").hidden = own.length === 0;
    showRows(byId("bytes-of-updates"), rowsOfBytes(own, last.updates));
    showRows(byId("moves"), rowsOfMoves(last, states[0].variables, last.variables));
    byId("readers").hidden = own.length === 0;
    byId("readers").querySelectorAll("label").forEach((label) => label.remove());
    byId("readers").append(...names.map((name, i) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "reader", checked: i === used });
      input.addEventListener("change", () => {
        used = i;
        pictures.show(states[used]);
        classify();
      });
      label.append(input, i ? `with ${name}` : name);
      return label;
    }));
  }

  // A model and updates, each of the file before; the last one reads digits at first.
  function showChain(chain) {
    const start = performance.now();
    const decoded = decodeFiles(chain);
    const time = Math.ceil(performance.now() - start);
    states = decoded;
    names = chain.map(({ name }) => name);
    used = states.length - 1;
    const { file, layout, weights } = states[0], last = states[used];
    const digest = sha256(bytesOfWeights(last.weights));
    showSteps(byId("steps"), [
      ...stepsOf(states[0], chain[0].bytes), ...stepsOfUpdates(names.slice(1), last),
    ]);
    showFields(byId("fields"), fieldsOf(file));
    showTensors(byId("tensors"), file, layout);
    showUpdates();
    byId("took").textContent = `All this has just taken ${time} ms in this browser.`;
    byId("digest").textContent = digest;
    byId("same").textContent = knownDigest(digest);
    const sizes = chain.slice(1).map(({ name, bytes }) => `, and ${name}, ${grouped(bytes.length)}`
      + " bytes");
    byId("which").textContent = `${names[0]}, ${grouped(chain[0].bytes.length)} bytes for`
      + ` ${grouped(weights.length)} weights of ${file.network.name}${sizes.join("")}`;
    byId("digit-part").hidden = !canRead(file.network);
    pictures.show(last);
    classify();
  }

  function showShipped() {
    byId("own-file").value = "";
    byId("fault").textContent = "";
    showChain([shipped]);
  }

  const owned = makeOwnFiles(shipped, showChain);

  // What is invalid leaves the network before it in use.
  async function showOwn(chosen) {
    if (!chosen.length) return;
    byId("network").setAttribute("aria-busy", "true");
    byId("fault").textContent = "";
    try {
      byId("fault").textContent = await owned.show(chosen);
    } finally {
      byId("network").setAttribute("aria-busy", "false");
    }
  }

  // --- the digit

  function reading(logits) {
    const best = classOf(logits);
    if (best < 0) return "nothing, as a logit is not finite";
    return `a ${best}, at ${fixed(100 * probabilities(logits)[best], 1)} %`;
  }

  function showBars(logits) {
    const p = logits ? probabilities(logits) : new Array(10).fill(0);
    const best = logits ? classOf(logits) : -1;
    byId("bars").querySelectorAll("tr").forEach((row, digit) => {
      row.classList.toggle("best", digit === best);
      fillBar(row, best < 0 ? null : p[digit]);
    });
    byId("verdict").textContent = best < 0 ? "\u2013" : best;
    byId("told").textContent = logits
      ? `The network reads ${reading(logits)}.${others()}`
      : "Draw a digit, or take one below.";
  }

  // What the other end of the chain reads: with updates there are an old network and a new one.
  function others() {
    if (states.length === 1) return "";
    const other = used === 0 ? states.length - 1 : 0;
    const { file: { network }, weights } = states[other];
    const logits = logitsOf(network, weights, pixels);
    return ` ${other ? "With all updates" : "Without updates"} it reads ${reading(logits)}.`;
  }

  function classify() {
    showPixels(byId("seen"), pixels ?? new Uint8Array(SIDE * SIDE));
    const { file: { network }, weights } = states[used];
    showBars(pixels && canRead(network) ? logitsOf(network, weights, pixels) : null);
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
  byId("own-file").addEventListener("change", (event) => showOwn([...event.target.files]));
  byId("shipped-update").hidden = !update;
  byId("shipped-update").addEventListener("click", () => {
    byId("fault").textContent = "";
    showChain([shipped, update]);
  });
  // Files may be dropped anywhere on this part of the page.
  byId("network").addEventListener("dragover", (event) => event.preventDefault());
  byId("network").addEventListener("drop", (event) => {
    event.preventDefault();
    showOwn([...event.dataTransfer.files]);
  });
  showShipped();
}
