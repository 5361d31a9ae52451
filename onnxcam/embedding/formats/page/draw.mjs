// Where a map lies on its image, and how it is drawn: arithmetic on arrays, without a document.

const UNSEEN = 0.35; // brightness of what the model was not shown
const GRAY = 0.8; // how far the colors of the photograph give way to those of the map, per opacity
const SHADE = 0.5; // how far the photograph darkens where there is no evidence, per opacity
const LUMA = [0.299, 0.587, 0.114];

// The part of an image that a tensor shows: left, top, right, bottom in pixels of the image, with padding beyond it.
// `image` and `tensor` are [width, height].
export function box(image, tensor, fit, cropRatio) {
  const [width, height] = image;
  if (fit === "squash") return [0, 0, width, height];
  if (fit.startsWith("letterbox")) return letterbox(image, tensor, fit);
  let resized = tensor.map((side) => Math.floor(side / cropRatio + 1e-9));
  if (fit === "crop") {
    const axis = resized[1] * width > resized[0] * height ? 1 : 0;
    const side = resized[axis];
    resized = image.map((own) => Math.floor((side * own) / image[axis]));
  }
  const start = resized.map((full, axis) => roundToEven((full - tensor[axis]) / 2));
  const scale = resized.map((full, axis) => image[axis] / full);
  return [
    ...start.map((first, axis) => first * scale[axis]),
    ...start.map((first, axis) => Math.min((first + tensor[axis]) * scale[axis], image[axis])),
  ];
}

function letterbox(image, tensor, fit) {
  const scale = Math.min(tensor[0] / image[0], tensor[1] / image[1]);
  const inCorner = fit === "letterbox-corner";
  const size = image.map((side) => Math.max(1, inCorner ? Math.floor(side * scale + 1e-9) : roundToEven(side * scale)));
  const corner = size.map((side, axis) => (inCorner ? 0 : Math.floor((tensor[axis] - side) / 2)));
  const start = corner.map((first, axis) => (-first * image[axis]) / size[axis]);
  const end = corner.map((first, axis) => ((tensor[axis] - first) * image[axis]) / size[axis]);
  return [...start, ...end];
}

function roundToEven(value) {
  const lower = Math.floor(value);
  if (value - lower !== 0.5) return Math.round(value);
  return lower % 2 === 0 ? lower : lower + 1;
}

// The map divided by its largest value, in [0, 1] or, if it is signed, in [-1, 1]; null for a map without evidence.
// The fraction `outliers` of the cells with evidence, the largest, is drawn alike.
export function normalize(map, signed, outliers) {
  const evidence = Float64Array.from(map, (value) => (signed ? value : Math.max(value, 0)));
  const strengths = evidence.map(Math.abs).filter((value) => value > 0);
  if (strengths.length === 0) return null;
  strengths.sort();
  const peak = strengths[strengths.length - 1 - Math.floor(outliers * strengths.length)];
  return evidence.map((value) => Math.min(Math.max(value / peak, -1), 1));
}

// The map (rows x columns) at the pixels of an image of `width` x `height` of which it covers `area`, by linear
// interpolation; NaN where it covers nothing.
export function spread(map, [rows, columns], [width, height], area) {
  const along = weights(width, area[0], area[2], columns);
  const down = weights(height, area[1], area[3], rows);
  const values = new Float32Array(width * height).fill(NaN);
  for (let y = 0; y < height; y++) {
    if (down[y] === null) continue;
    const [top, bottom, below] = down[y];
    for (let x = 0; x < width; x++) {
      if (along[x] === null) continue;
      const [left, right, beside] = along[x];
      const upper = map[top * columns + left] * (1 - beside) + map[top * columns + right] * beside;
      const lower = map[bottom * columns + left] * (1 - beside) + map[bottom * columns + right] * beside;
      values[y * width + x] = upper * (1 - below) + lower * below;
    }
  }
  return values;
}

function weights(side, start, end, cells) {
  return Array.from({ length: side }, (_, pixel) => {
    const position = ((pixel + 0.5 - start) / (end - start)) * cells;
    if (position < 0 || position > cells) return null;
    const clipped = Math.min(Math.max(position - 0.5, 0), cells - 1);
    const first = Math.floor(clipped);
    return [first, Math.min(first + 1, cells - 1), clipped - first];
  });
}

// The pixels (RGBA) with the map over them; `colors` holds red, green and blue from the lowest value to 1.
export function blend(pixels, values, colors, signed, opacity) {
  const result = new Uint8ClampedArray(pixels);
  const last = colors.length / 3 - 1;
  for (let index = 0; index < values.length; index++) {
    const at = index * 4;
    const gray = LUMA[0] * pixels[at] + LUMA[1] * pixels[at + 1] + LUMA[2] * pixels[at + 2];
    const value = values[index];
    if (Number.isNaN(value)) {
      result[at] = result[at + 1] = result[at + 2] = gray * UNSEEN;
      continue;
    }
    const strength = Math.abs(value);
    const tint = opacity * Math.sqrt(strength);
    const remaining = (1 - SHADE * opacity * (1 - strength)) * (1 - tint);
    const color = 3 * Math.round((signed ? (value + 1) / 2 : value) * last);
    for (let channel = 0; channel < 3; channel++) {
      const muted = pixels[at + channel] * (1 - GRAY * opacity) + gray * GRAY * opacity;
      result[at + channel] = muted * remaining + colors[color + channel] * tint;
    }
  }
  return result;
}

// The numbers of a string of two hexadecimal digits a number.
export function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

// The indices of the largest numbers, the largest first.
export function best(numbers, count) {
  return Array.from(numbers.keys()).sort((first, second) => numbers[second] - numbers[first]).slice(0, count);
}
