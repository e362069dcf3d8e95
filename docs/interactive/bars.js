// Probabilities of classes, and the bars that show them.
"use strict";

// The softmax of the logits.
function probabilities(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const e = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = sum(e);
  return e.map((value) => value / total);
}

// A row of a table for the probability of a class.
function barOf(number) {
  const row = document.createElement("tr");
  row.innerHTML = `<th scope="row">${number}</th><td><div class="groove"><div class="fill"></div>`
    + '</div></td><td class="part"></td>';
  return row;
}

// Sets a row's bar to a probability, or empties it.
function fillBar(row, p) {
  row.querySelector(".fill").style.width = `${100 * (p ?? 0)}%`;
  row.querySelector(".part").textContent = p === null ? "" : `${fixed(100 * p, 1)} %`;
}
