// Files that are relative to another one: their fields, what they do to its variables, and which
// comes after which.  docs/SPEC.md, section 13.
"use strict";

const FIRST_UPDATE = 0x20; // the version of an update is this and its random code
const UNCODED = 0, SAME = 128, STEPS = 4; // levels
// 2^(j/4), correctly rounded to float64.
const ROOTS = [0, 0x306fe0a31b715, 0x6a09e667f3bcd, 0xae89f995ad3ad].map((m) => 1 + m / 2 ** 52);

// Whether a file says of itself that it is an update.
function isUpdate(bytes) {
  const magic = bytes[0] === 0x52 && bytes[1] === 0x4d && bytes[2] === 0x43;
  return magic && bytes.length >= 12
    && bytes[3] >= FIRST_UPDATE && bytes[3] < FIRST_UPDATE + CODES.length;
}

// The checksum of the file that an update is relative to.
function baseOf(bytes) {
  return word32(bytes, 4);
}

function hexWord(word) {
  return word.toString(16).padStart(8, "0");
}

// The fields of an update of the file with the checksum `base`; `root` are those of the model that
// the chain begins with.
function readUpdate(bytes, root, base) {
  const body = openEnvelope(bytes, (version) => (isUpdate(bytes) ? ""
    : version === 1 ? "it is a model, no update"
      : `format version ${version} is unknown; expected ${FIRST_UPDATE} to`
        + ` ${FIRST_UPDATE + CODES.length - 1}`));
  check(baseOf(bytes) === base, `it is an update of the file with the checksum`
    + ` ${hexWord(baseOf(bytes))}; this one has ${hexWord(base)}`);
  check(body.length > 8, "it ends within its header");
  const code = bytes[3] - FIRST_UPDATE, bits = bytes[8], { tensors } = root;
  checkBits(bits);
  let [blockSize, offset] = readVarint(body, 9);
  let seed;
  [seed, offset] = readVarint(body, offset);
  const payload = offset + tensors.length;
  check(body.length >= payload, "it ends within its header");
  const levels = Array.from(body.subarray(offset, payload));
  check(levels.some((level) => level !== UNCODED),
    "all of its levels are 0, so it changes nothing");
  const counts = variablesOf(tensors, root.factors);
  const variables = sum(counts.filter((_, t) => levels[t] !== UNCODED));
  checkBlockSize(blockSize, variables);
  const blocks = Math.ceil(variables / blockSize);
  checkLength(body, payload, { code, bits, blocks });
  const update = {
    code, bits, blockSize, seed, levels, variables, blocks, headerBytes: payload,
    payloadBytes: body.length - payload, base, crc: checksumOf(bytes),
  };
  return { ...update, ...readPayload(body.subarray(payload), update) };
}

// The scale of a tensor whose root has the float16 `pattern`.
function scaleOfLevel(level, pattern) {
  if (level === UNCODED) return 0;
  const quarters = (level - SAME) & (STEPS - 1);
  return Math.fround(float16(pattern) * ROOTS[quarters] * 2 ** ((level - SAME - quarters) / STEPS));
}

// For each variable that an update codes, in tensor order: which of all it is, and its scale.
function codedVariables(levels, { tensors, factors, rho }) {
  const which = [], scales = [];
  let first = 0;
  variablesOf(tensors, factors).forEach((count, t) => {
    const scale = scaleOfLevel(levels[t], rho[t]);
    for (let i = 0; i < count && levels[t] !== UNCODED; i++) {
      which.push(first + i);
      scales.push(scale);
    }
    first += count;
  });
  return { which, scales };
}

// What an update makes of the variables of its base, tensors one after another: a float32 product
// and a float32 sum for each that is coded.  Both are rounded once: float64 has bits enough.
function addUpdate(update, root, base) {
  const { which, scales } = codedVariables(update.levels, root);
  const normals = normalsAtPlaces(update);
  const values = base.slice();
  streamPermutation(update.seed, STREAM.PERMUTATION, 0, which.length).forEach((number, place) => {
    const moved = Math.fround(scales[number] * normals[place]);
    values[which[number]] = Math.fround(base[which[number]] + moved);
  });
  return values;
}

// A decoded chain with one more file behind it.
function applyUpdate(decoded, bytes) {
  const { file, layout, updates, variables, crc } = decoded;
  const update = readUpdate(bytes, file, crc);
  const values = addUpdate(update, file, variables);
  return {
    file, layout, updates: [...updates, update], variables: values, crc: update.crc,
    weights: weightsOfVariables(values, layout),
  };
}

// A model and updates, each of the file before it.
function decodeChain([root, ...updates]) {
  return updates.reduce(applyUpdate, decodeModel(root));
}

// A base is not among the files.
class MissingFileError extends InvalidFileError {}

// The files that lead to one, the model first, each found among `files` by its checksum; each item
// has a name and bytes.  Those among `files` are intact.
function findChain(last, files) {
  const chain = [last];
  check(!isUpdate(last.bytes) || isIntact(last.bytes), `${last.name}: ${DAMAGED}`);
  while (isUpdate(chain[0].bytes)) {
    const wanted = baseOf(chain[0].bytes);
    const base = files.find(({ bytes }) => checksumOf(bytes) === wanted);
    const named = `${chain[0].name}: it is an update of`;
    if (!base) {
      throw new MissingFileError(`${named} the file with the checksum ${hexWord(wanted)}: open that`
        + " too.");
    }
    check(chain.length <= files.length, `${named} an update of itself`);
    chain.unshift(base);
  }
  return chain;
}
