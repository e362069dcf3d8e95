// From strokes to an image as MNIST's makers prepared theirs (LeCun et al. 1998): scaled so that
// the longer side takes 20 of 28 pixels, antialiased, the centre of mass in the centre.
"use strict";

const SIDE = 28;
const BOX = 20;
const PEN = 2.6; // width of the stroke in pixels, by which digits look as bold as MNIST's

// Distance of a point from the segment from a to b.
function distanceToSegment(x, y, a, b) {
  const dx = b.x - a.x, dy = b.y - a.y, squared = dx * dx + dy * dy;
  const along = squared ? ((x - a.x) * dx + (y - a.y) * dy) / squared : 0;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(x - a.x - t * dx, y - a.y - t * dy);
}

// Pixels 0 to 255 of strokes in pixel coordinates; an edge fades over one pixel.
function paintStrokes(strokes) {
  const pixels = new Uint8Array(SIDE * SIDE);
  for (let i = 0; i < SIDE; i++) {
    for (let j = 0; j < SIDE; j++) {
      let nearest = Infinity;
      for (const stroke of strokes) {
        stroke.forEach((point, n) => {
          const before = stroke[Math.max(0, n - 1)];
          nearest = Math.min(nearest, distanceToSegment(j + 0.5, i + 0.5, before, point));
        });
      }
      const cover = Math.min(1, Math.max(0, PEN / 2 + 0.5 - nearest));
      pixels[SIDE * i + j] = Math.round(255 * cover);
    }
  }
  return pixels;
}

// How far the centre of mass is from where MNIST has it, the middle of pixel (14, 14).
function offsetOfMass(pixels) {
  let mass = 0, x = 0, y = 0;
  pixels.forEach((pixel, at) => {
    mass += pixel;
    x += pixel * (at % SIDE);
    y += pixel * Math.floor(at / SIDE);
  });
  return { x: SIDE / 2 - x / mass, y: SIDE / 2 - y / mass };
}

function moveStrokes(strokes, scale, dx, dy) {
  return strokes.map((stroke) => stroke.map(
    ({ x, y }) => ({ x: scale * x + dx, y: scale * y + dy }),
  ));
}

// Strokes: lists of points {x, y} in any units; `pen` is the width of the line in them.
function imageOfStrokes(strokes, pen) {
  const xs = strokes.flat().map((point) => point.x), ys = strokes.flat().map((point) => point.y);
  const left = Math.min(...xs), right = Math.max(...xs);
  const top = Math.min(...ys), bottom = Math.max(...ys);
  // A dot is not blown up to a disc: no side counts for less than two widths of the pen.
  const scale = (BOX - PEN) / Math.max(right - left, bottom - top, 2 * pen);
  const middle = moveStrokes(strokes, scale,
    (SIDE - scale * (left + right)) / 2, (SIDE - scale * (top + bottom)) / 2);
  const offset = offsetOfMass(paintStrokes(middle));
  return paintStrokes(moveStrokes(middle, 1, offset.x, offset.y));
}

// An image as a picture of white on black in a canvas of 28x28.
function showPixels(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  pixels.forEach((pixel, at) => image.data.set([pixel, pixel, pixel, 255], 4 * at));
  context.putImageData(image, 0, 0);
}
