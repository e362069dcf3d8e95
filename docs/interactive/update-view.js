// What updates say and change: their bytes by purpose, and which tensors moved how far.
"use strict";

// Rows of cells into the body of a table; the first cell of each is its head.
function showRows(body, rows) {
  body.replaceChildren(...rows.map(([head, ...cells]) => {
    const row = document.createElement("tr");
    const cell = document.createElement("th");
    cell.scope = "row";
    cell.textContent = head;
    row.append(cell);
    cells.forEach((content) => { row.insertCell().append(content); });
    return row;
  }));
}

// The bytes of an update by what they are for; they sum to the length of its file.
function bytesByPurpose({ levels, headerBytes, payloadBytes }) {
  const kind = 4, base = 4, checksum = 4;
  return {
    kind, base, coding: headerBytes - kind - base - levels.length, levels: levels.length,
    messages: payloadBytes, checksum,
  };
}

function rowsOfBytes(names, updates) {
  return updates.map((update, i) => {
    const parts = Object.values(bytesByPurpose(update));
    return [names[i], ...[...parts, sum(parts)].map(grouped)];
  });
}

// Of each tensor, how far an array of variables has moved from another one.
function movesOf({ counts }, before, after) {
  let first = 0;
  return counts.map((count) => {
    let squares = 0, largest = 0, moved = 0;
    for (const end = first + count; first < end; first++) {
      const move = after[first] - before[first];
      squares += move * move;
      largest = Math.max(largest, Math.abs(move));
      moved += move === 0 ? 0 : 1;
    }
    return { count, moved, mean: Math.sqrt(squares / count), largest };
  });
}

// A bar whose length is a share of the whole width.
function shareBar(share) {
  const groove = document.createElement("div"), fill = document.createElement("div");
  groove.className = "groove";
  fill.className = "fill";
  fill.style.width = `${100 * share}%`;
  groove.append(fill);
  return groove;
}

function rowsOfMoves({ file, layout, updates }, before, after) {
  const moves = movesOf(layout, before, after);
  const inScales = moves.map(({ mean }, t) => mean / float16(file.rho[t]));
  const farthest = Math.max(...inScales);
  return file.tensors.map((tensor, t) => {
    const { count, moved, mean, largest } = moves[t];
    const scales = updates.map(({ levels }) => scaleOfLevel(levels[t], file.rho[t]));
    return [
      tensor.name, `${grouped(moved)} of ${grouped(count)}`,
      scales.map((scale) => (scale ? fixed(scale, 4) : "\u2013")).join(", "),
      fixed(mean, 4), fixed(largest, 4), shareBar(farthest ? inScales[t] / farthest : 0),
      percent(inScales[t]),
    ];
  });
}

// How the decoder went on behind the model.
function stepsOfUpdates(names, { file, layout, updates }) {
  return updates.map((update, i) => {
    const coded = update.levels.filter((level) => level !== UNCODED).length;
    return `${names[i]}: checked against its CRC-32, ${hexWord(update.crc)}; it names its base by`
      + ` that one's, ${hexWord(update.base)}. Drew the normals of ${grouped(update.blocks)} blocks`
      + ` of ${grouped(update.blockSize)} and added them, times the scale of the tensor, to`
      + ` ${grouped(update.variables)} of ${grouped(sum(layout.counts))} variables, those of`
      + ` ${coded} of ${file.tensors.length} tensors; then copied all to the weights once more.`;
  });
}
