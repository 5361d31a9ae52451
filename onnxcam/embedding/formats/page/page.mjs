// The page: an image comes in, the model runs, and the map is drawn over the image.

import { best, blend, box, fromHex, normalize, spread } from "./draw.mjs";
import { firstLine, open } from "./model.mjs";

const LONGEST_SIDE = 1024; // pixels: a map has no detail that a larger image would show
const LISTED = 5; // classes
const LONGEST_NAME = 40; // characters of the layers, whose ends tell them apart
const AUTOMATIC = -1;

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const state = { explanation: null, colors: null, model: null, photo: null, target: AUTOMATIC, result: null, runs: 0 };

function say(text, isProblem = false) {
  element("status").textContent = text;
  element("status").classList.toggle("problem", isProblem);
}

function nameOf(index) {
  return state.explanation.labels?.[index] || `class ${index}`;
}

async function begin() {
  const response = await fetch("explanation.json");
  if (!response.ok) throw new Error(`explanation.json cannot be loaded (${response.status})`);
  const explanation = await response.json();
  state.explanation = explanation;
  state.colors = fromHex(explanation.colors);
  const layers = explanation.layers.join(", ");
  const place = layers && ` at ${layers.length > LONGEST_NAME ? `…${layers.slice(-LONGEST_NAME)}` : layers}`;
  element("about").textContent = `${explanation.model}, explained by ${explanation.method}${place}`;
  element("about").title = layers;
  drawLegend();
  listSamples();
  if (explanation.target !== null && explanation.classes) listTargets(explanation.classes);
  say("Loading the model …");
  state.model = await open(explanation, new URLSearchParams(location.search).get("backend"));
  element("runtime").textContent = state.model.description;
  document.documentElement.dataset.backend = state.model.backend;
  say("Ready: choose an image.");
  if (state.photo) await explain();
}

function listSamples() {
  for (const path of state.explanation.samples) {
    const button = document.createElement("button");
    const image = document.createElement("img");
    image.src = path.split("/").map(encodeURIComponent).join("/");
    image.alt = `Sample image ${path.replace(/^.*\/\d+_|\.\w+$/g, "")}`;
    button.append(image);
    button.addEventListener("click", async () => show(await (await fetch(image.src)).blob()));
    element("samples").append(button);
  }
}

function listTargets(count) {
  const options = [new Option(state.explanation.automatic, AUTOMATIC)];
  for (let index = 0; index < count; index++) options.push(new Option(nameOf(index), index));
  element("target").append(...options);
  element("target").addEventListener("change", (event) => choose(Number(event.target.value)));
  element("others").hidden = false;
}

function drawLegend() {
  const { signed } = state.explanation;
  element("low").textContent = signed ? "against" : "no evidence";
  element("high").textContent = signed ? "for" : "the most";
  const context = element("bar").getContext("2d");
  const bar = context.createImageData(129, 1);
  const last = state.colors.length / 3 - 1;
  for (let x = 0; x < 129; x++) {
    const color = 3 * Math.round((x / 128) * last);
    bar.data.set([...state.colors.subarray(color, color + 3), 255], 4 * x);
  }
  context.putImageData(bar, 0, 0);
}

// An image is read at its own orientation; transparent parts are white.
async function show(file) {
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    state.photo = { width, height, pixels: draw(bitmap, width, height) };
    const [rows, columns] = state.explanation?.size ?? [null, null];
    state.photo.input = rows && columns ? { width: columns, height: rows, pixels: draw(bitmap, columns, rows) } : state.photo;
    bitmap.close();
  } catch (error) {
    say(`This file cannot be read as an image (${firstLine(error)}).`, true);
    return;
  }
  state.target = AUTOMATIC;
  element("target").value = String(AUTOMATIC);
  state.result = null;
  if (state.model) say("");
  element("drop").classList.add("filled");
  element("answer").hidden = true;
  paint();
  if (state.model) await explain();
}

function draw(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

async function explain() {
  const number = ++state.runs;
  const { width, height, pixels } = state.photo.input;
  const rgb = new Uint8Array(width * height * 3);
  for (let index = 0; index < width * height; index++) rgb.set(pixels.subarray(4 * index, 4 * index + 3), 3 * index);
  say("The model is looking …");
  await new Promise((resolve) => setTimeout(resolve, 20)); // lets the browser show the line before it is busy
  const began = performance.now();
  try {
    const result = await state.model.run(rgb, width, height, state.target);
    if (number !== state.runs) return;
    state.result = result;
    const seconds = (performance.now() - began) / 1000;
    listClasses();
    const isEmpty = paint();
    say(isEmpty ? "No evidence for this class." : `Explained in ${seconds.toFixed(seconds < 1 ? 2 : 1)} s.`);
  } catch (error) {
    if (number === state.runs) say(`The model failed (${firstLine(error)}).`, true);
  }
}

function choose(target) {
  state.target = target;
  element("target").value = String(target);
  return state.photo && state.model ? explain() : undefined;
}

function listClasses() {
  const { score, target } = state.explanation;
  element("answer").hidden = false;
  element("heading").hidden = !score;
  if (!score) return;
  const numbers = Array.from(state.result.scores, Number);
  const isShare = score.isProbability;
  const ranked = best(numbers, LISTED);
  const explained = explainedClass();
  if (explained !== null && !ranked.includes(explained)) ranked.push(explained);
  element("classes").replaceChildren(
    ...ranked.map((index) => {
      const row = document.createElement(target === null ? "span" : "button");
      const [name, number] = ["name", "number"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
      name.textContent = nameOf(index);
      number.textContent = isShare ? `${(100 * numbers[index]).toFixed(1)} %` : `score ${numbers[index].toPrecision(3)}`;
      if (isShare) row.style.setProperty("--share", `${100 * numbers[index]}%`);
      row.append(name, number);
      if (target === null) row.className = "row";
      else {
        row.setAttribute("aria-pressed", String(index === explained));
        row.title = `Explain ${nameOf(index)}`;
        row.addEventListener("click", () => choose(index));
      }
      const line = document.createElement("li");
      line.append(row);
      return line;
    }),
  );
}

// The class whose evidence the map shows; null where the file explains another target than a class of the list.
function explainedClass() {
  if (state.target !== AUTOMATIC) return state.target;
  return state.explanation.showsTop && state.result.scores ? best(state.result.scores, 1)[0] : null;
}

// Draws the image, with the map if there is one; whether that is empty.
function paint() {
  const { width, height, pixels } = state.photo;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.putImageData(new ImageData(new Uint8ClampedArray(pixels), width, height), 0, 0);
  canvas.setAttribute("aria-label", "The image");
  if (!state.result || !element("shown").checked) return false;
  const { signed, outliers, fit, crop_ratio: cropRatio, size } = state.explanation;
  const { map, shape } = state.result;
  const level = normalize(map, signed, outliers);
  const index = explainedClass();
  const subject = index === null ? "the target" : nameOf(index);
  canvas.setAttribute("aria-label", level ? `The image with the evidence for ${subject}` : `The image: no evidence for ${subject}`);
  if (level === null) return true;
  const area = size[0] && size[1] ? [0, 0, width, height] : box([width, height], [shape[1], shape[0]], fit, cropRatio);
  const values = spread(level, shape, [width, height], area);
  const blended = blend(pixels, values, state.colors, signed, Number(element("opacity").value));
  context.putImageData(new ImageData(blended, width, height), 0, 0);
  return false;
}

function listen() {
  const drop = element("drop");
  element("file").addEventListener("change", (event) => event.target.files[0] && show(event.target.files[0]));
  for (const kind of ["dragover", "drop", "dragleave"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) show(event.clipboardData.files[0]);
  });
  for (const id of ["opacity", "shown"]) element(id).addEventListener("input", () => state.photo && paint());
}

listen();
begin().catch((error) => say(`The model cannot be loaded: ${firstLine(error)}`, true));
