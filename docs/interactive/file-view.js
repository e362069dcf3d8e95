// What a decoded file says: its steps, its header, its tensors.
"use strict";

// How the decoder went, in steps; the numbers are those of this file.
function stepsOf({ file, layout }, bytes) {
  const { code, bits, blocks, blockSize, variables, tensors } = file;
  const weights = sum(tensors.map((tensor) => tensor.size));
  const flipped = sum(Array.from(layout.signs, (sign) => (sign < 0 ? 1 : 0)));
  const integers = code === MRC
    ? `Cut ${grouped(blocks)} indices of ${bits} bits each out of the bytes behind the header.`
    : `Undid the range coder: ${grouped(file.messages.length)} integers, each bit a decision.`;
  const normals = isOfVariables(code)
    ? `Made the normal of the node of each of ${grouped(variables)} variables, from Philox words.`
    : code === SP_PFR
      ? `Drew the candidates of ${grouped(blocks)} blocks of ${blockSize} numbers, in their bins.`
      : `Drew ${grouped(blocks)} rows of ${blockSize} numbers: from the seed and the row's number`
        + " Philox makes words, and the quantile makes normals of them.";
  return [
    `Checked ${grouped(bytes.length)} bytes against their CRC-32, ${hexWord(file.crc)}, and read`
      + ` a header of ${file.headerBytes} bytes.`,
    integers,
    normals,
    `Sorted ${grouped(variables)} words of another stream: the permutation, which says which`
      + " variable stands where.",
    `Multiplied each of the ${grouped(variables)} variables by the scale of its tensor.`,
    `Copied them to ${grouped(weights)} weights, ${grouped(flipped)} of them with the other sign.`,
  ];
}

function fieldsOf(file) {
  const fields = {
    Network: file.network.name,
    "Random code": `${file.code}: ${CODES[file.code]}`,
    Grouping: GROUPING[file.grouping],
    Signs: SIGNS[file.signs],
    "Bits per block": file.bits,
    "Block size": grouped(file.blockSize),
    Blocks: grouped(file.blocks),
    Seed: file.seed,
  };
  return file.theta ? { ...fields, Theta: `${file.theta} / 65536` } : fields;
}

function showFields(list, fields) {
  list.replaceChildren(...Object.entries(fields).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(document.createElement("dt"), document.createElement("dd"));
    pair.firstChild.textContent = name;
    pair.lastChild.textContent = value;
    return pair;
  }));
}

function showSteps(list, steps) {
  list.replaceChildren(...steps.map((step) => {
    const item = document.createElement("li");
    item.textContent = step;
    return item;
  }));
}

function showTensors(body, { tensors, factors, rho }, { counts }) {
  body.replaceChildren(...tensors.map((tensor, t) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = tensor.name;
    row.append(head);
    const cells = [
      tensor.shape.join(" \u00d7 "), grouped(tensor.size), grouped(factors[t]),
      grouped(counts[t]), fixed(float16(rho[t]), 4),
    ];
    cells.forEach((text) => { row.insertCell().textContent = text; });
    return row;
  }));
}
