// Files of the reader's own, models and updates in any order: which of them are shown.
"use strict";

const MOST_OPENED = 64; // files that are remembered, so that updates find their base

// `shipped` is a file that is there already; showChain(chain) shows a model and its updates.
function makeOwnFiles(shipped, showChain) {
  // Intact files, the last first; and updates whose base is not among them.
  let opened = [], waiting = [];

  // Throws a DOMException where the file cannot be read.
  async function read(chosen) {
    if (chosen.size > LARGEST_FILE) {
      throw new InvalidFileError(`${chosen.name}: it is larger than ${grouped(LARGEST_FILE)} bytes,`
        + " so it is no .rmc file");
    }
    return { name: chosen.name, bytes: new Uint8Array(await chosen.arrayBuffer()) };
  }

  // The chain that leads to each of some files; those whose base is missing wait for it.
  function findChains(files, faults) {
    const chains = [];
    waiting = [];
    for (const file of files) {
      try {
        chains.push(findChain(file, [...opened, shipped]));
      } catch (error) {
        if (!(error instanceof InvalidFileError)) throw error;
        faults.add(error.message);
        if (error instanceof MissingFileError) waiting.push(file);
      }
    }
    return chains;
  }

  // Show each chain that is no part of another one, so that the last remains.
  function showAll(files, faults) {
    const chains = findChains(files, faults);
    const isPart = (chain) => chains.some((other) => other !== chain
      && other.slice(0, -1).some(({ bytes }) => bytes === chain[chain.length - 1].bytes));
    for (const chain of chains.filter((one) => !isPart(one))) {
      try {
        showChain(chain);
      } catch (error) {
        if (!(error instanceof InvalidFileError)) throw error;
        faults.add(error.message);
      }
    }
  }

  // Show what the reader chose; returns what is wrong with it, as one line.
  async function show(chosen) {
    const faults = new Set(), files = [];
    for (const file of chosen) {
      try {
        files.push(await read(file));
      } catch (error) {
        const unreadable = error instanceof DOMException;
        if (!unreadable && !(error instanceof InvalidFileError)) throw error;
        faults.add(unreadable ? `${file.name}: it cannot be read` : error.message);
      }
    }
    opened = [...files.filter(({ bytes }) => isIntact(bytes)), ...opened];
    showAll([...waiting, ...files], faults);
    opened = opened.slice(0, MOST_OPENED);
    return [...faults].join(" ");
  }

  return { show };
}
