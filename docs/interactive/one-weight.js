// The first part of the page: one weight, its candidates, and the sample that is sent.
"use strict";

{
  const SEEDS = 2000;
  const FRAME = 12; // milliseconds of work between two pictures
  const controls = {
    mu: byId("mu"), kappa: byId("kappa"), bits: byId("bits"), seed: byId("seed"),
  };
  let job = 0;

  // What the controls say; mu gives way to kappa.
  function readControls() {
    const kappa = Number(controls.kappa.value);
    const reach = Math.floor(100 * farthestMean(kappa * LN2)) / 100;
    controls.mu.min = -reach;
    controls.mu.max = reach;
    const delta = Number(controls.mu.value);
    const wanted = Math.floor(Number(controls.seed.value)) || 0;
    const seed = Math.min(2 ** 32 - 1, Math.max(0, wanted));
    return { kappa, reach, delta, seed, bits: Number(controls.bits.value) };
  }

  function drawOne(state) {
    const { seed, bits, delta, logS } = state;
    const drawn = selectIndex(seed, bits, 0, [delta], [logS]);
    return { ...state, ...drawn, shares: shares(drawn.logWeights) };
  }

  function showControls({ delta, reach, kappa, bits }) {
    byId("mu-value").value = fixed(delta, 2);
    byId("mu-hint").textContent = `at most \u221a(2\u03ba) = ${fixed(reach, 2)} (\u03ba in nats)`;
    byId("kappa-value").value = `${fixed(kappa, 1)} bits`;
    byId("bits-value").value = `${bits} ${bits === 1 ? "bit" : "bits"}`;
    byId("bits-hint").textContent = `${grouped(2 ** bits)} candidates`;
    controls.mu.setAttribute("aria-valuetext", `${fixed(delta, 2)} rho`);
    controls.kappa.setAttribute("aria-valuetext", `${fixed(kappa, 1)} bits`);
    controls.bits.setAttribute("aria-valuetext", `${bits} bits, ${2 ** bits} candidates`);
  }

  function effectiveNumber(weights) {
    return 1 / sum(weights.map((w) => w * w));
  }

  function showNumbers(draw) {
    const { delta, sigma, logS, candidates, index, bits } = draw;
    byId("sigma").textContent = sigma < 0.01 ? fixed(sigma, 4) : fixed(sigma, 3);
    byId("kl").textContent = fixed(gaussianKl(delta, logS) / LN2, 2);
    byId("count").textContent = grouped(candidates.length);
    byId("effective").textContent = fixed(effectiveNumber(draw.shares), 1);
    byId("index").textContent = index;
    byId("share").textContent = percent(draw.shares[index]);
    byId("sample").textContent = fixed(candidates[index], 3);
    const text = index.toString(2).padStart(bits, "0");
    const bytes = Array.from(packIndices([index], bits), (b) => b.toString(16).padStart(2, "0"));
    byId("message").textContent = text;
    byId("bytes-of-message").textContent = `as bytes ${bytes.join(" ")}`;
  }

  // What one sees, in words.
  function explain({ kappa, bits, delta, candidates, index, sigma, shares: weights }) {
    const effective = fixed(effectiveNumber(weights), 1), margin = bits - kappa;
    const off = fixed(Math.abs(candidates[index] - delta) / sigma, 1);
    const count = grouped(candidates.length), needed = grouped(Math.max(1, Math.round(2 ** kappa)));
    const where = `The sample lies ${off} widths \u03c3 from the mean of Q; a draw of Q is rarely`
      + " farther than 3.";
    if (margin < -0.5) {
      return `Bits below \u03ba: too few candidates. It takes some 2^\u03ba = ${needed} draws of P`
        + ` before one is likely to fall where Q is, and here are ${count}. The sender takes what`
        + ` there is. ${where} Over many seeds the samples stay too close to P: that is the bias.`;
    }
    if (margin < 1.5) {
      return "Bits about \u03ba: as in a file. Mean-KL gives each block just as many bits as its"
        + ` KL, so there are about 2^\u03ba candidates, ${count} here, and some ${effective} of`
        + ` them share the weight. ${where} Over many seeds a bias is still to be seen.`;
    }
    return `Bits above \u03ba: ${count} candidates, where 2^\u03ba is ${needed}. Some ${effective}`
      + ` of them share the weight, and Gumbel noise picks one by its share. ${where} Over many`
      + " seeds the bias shrinks with each bit more; each is also a bit more to send.";
  }

  // Many seeds, a few at a time, so that the page stays alive.
  function startHistogram(state) {
    const mine = ++job;
    const bins = new Array(BINS).fill(0), parts = new Array(PARTS).fill(0);
    let done = 0, deviation = 0;

    function drawSeed() {
      const { candidates, logWeights, index } = selectIndex(
        done, state.bits, 0, [state.delta], [state.logS],
      );
      bins[binOf(candidates[index])] += 1;
      parts[partOf(candidates[index], state)] += 1;
      deviation += Math.abs(1 - sum(logWeights.map(Math.exp)) / logWeights.length);
      done += 1;
    }

    function work() {
      if (mine !== job) return;
      const until = performance.now() + FRAME;
      do drawSeed(); while (done < SEEDS && performance.now() < until);
      drawHistogram(byId("histogram"), bins, state);
      byId("progress").value = done;
      if (done < SEEDS) requestAnimationFrame(work);
      else showBias(parts, deviation / done);
    }

    byId("bias").textContent = "Drawing \u2026";
    byId("bound").textContent = "";
    requestAnimationFrame(work);
  }

  function showBias(parts, deviation) {
    const words = `Counted in ${PARTS} intervals of equal mass under Q, the samples differ from Q`
      + ` by ${percent(massApart(parts))}; as many exact draws of Q would, by chance alone, by some`
      + ` ${percent(massByChance(SEEDS))}.`;
    byId("bias").textContent = words;
    byId("histogram").setAttribute("aria-label", `${grouped(SEEDS)} samples, against Q. ${words}`);
    byId("bound").textContent = "The law of the samples and Q are no farther apart, in total"
      + " variation, than half the mean of |1 \u2212 W|, W the mean of a seed's weights q/p"
      + ` (docs/derivations.md, section 8.3): over these seeds ${fixed(deviation / 2, 2)}.`;
  }

  function update() {
    const controlled = readControls();
    const logS = logVariance(controlled.delta, controlled.kappa * LN2);
    const draw = drawOne({ ...controlled, logS, sigma: Math.exp(0.5 * logS) });
    showControls(draw);
    showNumbers(draw);
    drawCandidates(byId("candidates"), draw);
    listCandidates(byId("listed"), draw);
    byId("words").textContent = explain(draw);
    return draw;
  }

  function updateAll() {
    startHistogram(update());
  }

  function setMargin(margin) {
    const wanted = Math.round(Number(controls.kappa.value)) + margin;
    controls.bits.value = Math.min(12, Math.max(1, wanted));
    updateAll();
  }

  for (const name of ["mu", "kappa", "bits"]) controls[name].addEventListener("input", updateAll);
  controls.seed.addEventListener("input", update);
  byId("next-seed").addEventListener("click", () => {
    controls.seed.value = (readControls().seed + 1) % 2 ** 32;
    update();
  });
  for (const button of document.querySelectorAll("[data-margin]")) {
    button.addEventListener("click", () => setMargin(Number(button.dataset.margin)));
  }
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width !== innerWidth) updateAll(); // phones also resize when a bar slides away
    width = innerWidth;
  });
  updateAll();
}
