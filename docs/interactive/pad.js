// The pad on which a digit is drawn, by mouse, touch, pen or keys.
"use strict";

const INK_WIDTH = 0.085; // of the pad's side
const KEY_STEP = 1 / 20;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Strokes are lists of points from 0 to 1; changed() is called whenever there is more ink.
function makePad(canvas, changed) {
  const context = canvas.getContext("2d");
  const pen = { x: 0.5, y: 0.3, down: false, byKeys: false };
  let strokes = [], backdrop = null;

  function redraw() {
    const side = canvas.width;
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    context.imageSmoothingEnabled = false;
    if (backdrop) context.drawImage(backdrop, 0, 0, side, side);
    context.strokeStyle = "#fff";
    context.lineWidth = INK_WIDTH * side;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes) {
      context.beginPath();
      for (const { x, y } of [stroke[0], ...stroke]) context.lineTo(x * side, y * side);
      context.stroke();
    }
    if (pen.byKeys) drawPen(side);
  }

  function drawPen(side) {
    context.strokeStyle = pen.down ? "#f0954f" : "#5fb4e5";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(pen.x * side, pen.y * side, 0.04 * side, 0, 2 * Math.PI);
    context.stroke();
  }

  function startStroke(point) {
    backdrop = null;
    strokes.push([point]);
    redraw();
    changed();
  }

  function goOn(point) {
    strokes[strokes.length - 1].push(point);
    redraw();
    changed();
  }

  function pointOf(event) {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pen.byKeys = false;
    startStroke(pointOf(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) goOn(pointOf(event));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    pen.byKeys = true;
    if (step) {
      pen.x = Math.min(0.95, Math.max(0.05, pen.x + step[0] * KEY_STEP));
      pen.y = Math.min(0.95, Math.max(0.05, pen.y + step[1] * KEY_STEP));
    } else {
      pen.down = !pen.down;
    }
    if (pen.down) (step ? goOn : startStroke)({ x: pen.x, y: pen.y });
    else redraw();
  });
  canvas.addEventListener("blur", () => {
    Object.assign(pen, { down: false, byKeys: false });
    redraw();
  });

  // Empties the pad; or shows a picture, which the first stroke takes away.
  function show(picture = null) {
    strokes = [];
    pen.down = false;
    backdrop = picture;
    redraw();
  }

  redraw();
  return { show, strokes: () => strokes };
}
