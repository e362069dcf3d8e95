// The fields of a .rmc file, checked in the order of section 2.5.  docs/SPEC.md, section 2.
"use strict";

const LARGEST_FILE = 4194304; // section 2.6
const FIXED_BYTES = 8;
const GROUPING = ["OUTPUTS", "INPUTS"];
const SIGNS = ["NONE", "UNIT", "WEIGHT"];

// What is wrong with a file, in one line.
class InvalidFileError extends Error {}

function check(condition, message) {
  if (!condition) throw new InvalidFileError(message);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

// Section 2.4.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

// Section 2.2: returns the value and the offset behind it.
function readVarint(bytes, offset) {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    check(offset + i < bytes.length, "it ends within its header");
    const byte = bytes[offset + i];
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) {
      check(i === 0 || byte !== 0, `the integer at byte ${offset} is not in its shortest form`);
      check(value < 2 ** 32, `the integer at byte ${offset} does not fit in 32 bits`);
      return [value, offset + i + 1];
    }
  }
  throw new InvalidFileError(`the integer at byte ${offset} is longer than five bytes`);
}

// Section 2.3: each index in `bits` bits, its highest first, padded with zeros to whole bytes.
function packIndices(indices, bits) {
  const payload = new Uint8Array(Math.ceil((indices.length * bits) / 8));
  let at = 0;
  for (const index of indices) {
    check(index >= 0 && index < 2 ** bits, `index ${index} does not fit in ${bits} bits`);
    for (let i = bits - 1; i >= 0; i--, at++) {
      payload[at >> 3] |= ((index >>> i) & 1) << (7 - (at & 7));
    }
  }
  return payload;
}

function unpackIndices(payload, bits, count) {
  check(payload.length === Math.ceil((count * bits) / 8), `${count} indices of ${bits} bits do`
    + ` not take ${payload.length} bytes`);
  let at = 0;

  function readBits(wanted) {
    let value = 0;
    for (let i = 0; i < wanted; i++, at++) {
      value = 2 * value + ((payload[at >> 3] >> (7 - (at & 7))) & 1);
    }
    return value;
  }

  const indices = Array.from({ length: count }, () => readBits(bits));
  check(readBits(8 * payload.length - at) === 0, "the padding bits after its last index are set");
  return indices;
}

// Section 2.1: the number that the bits of a positive normal float16 mean.
function float16(pattern) {
  return 2 ** ((pattern >> 10) - 15) * (1 + (pattern & 1023) / 1024);
}

function word16(bytes, offset) {
  return bytes[offset] + 256 * bytes[offset + 1];
}

function word32(bytes, offset) {
  return word16(bytes, offset) + 65536 * word16(bytes, offset + 2);
}

// Section 7.1: how many variables each tensor has.
function variablesOf(tensors, factors) {
  return tensors.map((tensor, t) => Math.ceil(tensor.size / factors[t]));
}

function sum(numbers) {
  return numbers.reduce((a, b) => a + b, 0);
}

// The network of a number, or the one that is described behind the fixed bytes; and what is behind.
function readNetwork(number, body) {
  if (number === DESCRIBED) return readDescription(body, FIXED_BYTES);
  const network = NETWORKS.find((known) => known.number === number);
  check(network, `network number ${number} is unknown`);
  return [network, FIXED_BYTES];
}

const DAMAGED = "its checksum is wrong: it is damaged, cut off, or has bytes behind its end";

// Whether a file is as it was written.
function isIntact(bytes) {
  return bytes.length > 4 && crc32(bytes.subarray(0, -4)) === checksumOf(bytes);
}

// The magic, the length, the version, which `refuse` says what is wrong with, and the checksum;
// returns the body.
function openEnvelope(bytes, refuse) {
  check(bytes[0] === 0x52 && bytes[1] === 0x4d && bytes[2] === 0x43,
    "it does not begin with the letters RMC, so it is no .rmc file");
  check(bytes.length >= 12, `it is cut off: ${bytes.length} bytes cannot hold a header`);
  const fault = refuse(bytes[3]);
  check(!fault, fault);
  const body = bytes.subarray(0, -4);
  check(isIntact(bytes), DAMAGED);
  return body;
}

// The last four bytes of a file, by which it is also named.
function checksumOf(bytes) {
  return word32(bytes, bytes.length - 4);
}

function checkBits(bits) {
  check(bits >= 1 && bits <= 24, `${bits} bits per block are out of range; expected 1 to 24`);
}

function checkBlockSize(blockSize, variables) {
  check(blockSize >= 1 && blockSize <= variables,
    `block size ${blockSize} is out of range; expected 1 to ${variables}`);
}

// The length of a body whose messages begin at `payload`: docs/SPEC.md, section 2.5, rule 11.
function checkLength(body, payload, { code, bits, blocks }) {
  const expected = payload + (code === MRC ? Math.ceil((blocks * bits) / 8) : 3);
  check(code === MRC ? body.length === expected : body.length >= expected,
    `it has ${body.length + 4} bytes; its header calls for ${expected + 4}`
    + (code === MRC ? "" : " or more"));
}

// The fields of a model; throws an InvalidFileError that names the first fault.
function readContainer(bytes) {
  const body = openEnvelope(bytes, (version) => (version === 1 ? ""
    : `format version ${version} is unknown; expected 1`));
  const [number, code, flags, bits] = bytes.subarray(4, 8);
  const [network, behind] = readNetwork(number, body);
  check(code < CODES.length, `random code ${code} is unknown; expected 0 to 12`);
  const grouping = flags & 15, signs = flags >> 4;
  check(grouping < GROUPING.length && signs < SIGNS.length, `layout flags ${flags} are unknown`);
  checkBits(bits);

  const tensors = tensorsOf(network);
  let [blockSize, offset] = readVarint(body, behind);
  let seed;
  [seed, offset] = readVarint(body, offset);
  const factors = [];
  for (const tensor of tensors) {
    let factor;
    [factor, offset] = readVarint(body, offset);
    check(factor >= 1 && factor <= tensor.size,
      `hash factor ${factor} of ${tensor.name} is out of range; expected 1 to ${tensor.size}`);
    factors.push(factor);
  }
  const variables = sum(variablesOf(tensors, factors));
  checkBlockSize(blockSize, variables);
  const blocks = Math.ceil(variables / blockSize);
  const payload = offset + 2 * tensors.length;
  checkLength(body, payload, { code, bits, blocks });
  const rho = tensors.map((_, t) => word16(body, offset + 2 * t));
  check(rho.every((pattern) => pattern >= 0x0400 && pattern <= 0x7bff),
    "one of its scales is not a positive normal float16");
  const file = {
    network, tensors, code, grouping, signs, bits, blockSize, seed, factors, rho, variables,
    blocks, headerBytes: payload, crc: checksumOf(bytes),
  };
  return { ...file, ...readPayload(body.subarray(payload), file) };
}

// What stands behind the header of a model or an update.
function readPayload(rest, file) {
  return file.code === MRC ? readIndices(rest, file) : readMessages(rest, file);
}

function readIndices(rest, file) {
  return { messages: unpackIndices(rest, file.bits, file.blocks) };
}

// Section 2.7: theta, then integers.
function readMessages(rest, { code, bits, blocks, variables }) {
  const theta = word16(rest, 0);
  check(theta >= 1, "its theta is zero");
  const count = isOfVariables(code) ? variables : blocks;
  const raw = code === SP_PFR ? bits : 0;
  const values = readIntegers(rest.subarray(2), count, theta, raw);
  const largest = { [ORC]: 1n << BigInt(bits), [PFR]: 1n << 32n,
    [SP_PFR]: (1n << BigInt(32 + bits)) - 1n }[code] ?? (1n << 62n) - 1n;
  check(values.every((value) => value <= largest), "one of its integers is out of range");
  const rows = code === ORC || code === PFR;
  return { theta, messages: rows ? values.map((value) => Number(value - 1n)) : values };
}
