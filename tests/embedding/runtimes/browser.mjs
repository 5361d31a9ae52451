// Opens a page of `onnxcam embed --format web` in Chromium, has an image explained, and prints what came out as JSON:
// node browser.mjs CHROMIUM URL IMAGE INPUT.json SHOTS [--flag ...]

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, url, image, input, shots, ...flags] = process.argv.slice(2);
const VIEWS = { wide: { width: 1100, height: 900 }, phone: { width: 390, height: 844 } };
const LIMIT = { timeout: 90_000 }; // milliseconds: shaders that are computed on a CPU are slow to compile

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", ...flags] });
try {
  const page = await browser.newPage({ viewport: VIEWS.wide });
  const requested = [];
  const problems = [];
  page.on("request", (request) => requested.push(request.url()));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(url);
  await status("Ready");
  await page.setInputFiles("#file", image);
  await status("Explained");
  for (const [name, view] of Object.entries(VIEWS)) {
    await page.setViewportSize(view);
    await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(VIEWS.wide);
  await page.screenshot({ path: `${shots}/dark.png`, fullPage: true });
  const result = {
    listed: (await page.locator("#classes > li").allInnerTexts()).map((row) => row.replace(/\s+/g, " ")),
    text: await page.innerText("body"),
    label: await page.getAttribute("#canvas", "aria-label"),
    backend: await page.getAttribute("html", "data-backend"),
    outputs: await page.evaluate(run, JSON.parse(readFileSync(input, "utf8"))),
    pixels: await page.evaluate(readCanvas),
    chosen: await explainSecond(),
    offered: await explainOffered(),
  };
  console.log(JSON.stringify({ ...result, requested, problems }));

  // Waits until the status begins with a word, or reports a problem.
  function status(beginning) {
    const matches = (word) => {
      const line = document.getElementById("status");
      return line.classList.contains("problem") || line.textContent.startsWith(word);
    };
    return page.waitForFunction(matches, beginning, LIMIT);
  }

  // What the canvas is said to show after a click on the first image that the page offers.
  async function explainOffered() {
    await page.click("#samples button");
    await page.waitForFunction(() => document.getElementById("target").value === "-1", null, LIMIT);
    await status("Explained");
    return page.getAttribute("#canvas", "aria-label");
  }

  // What the canvas is said to show after the second class was chosen; null if classes cannot be chosen.
  async function explainSecond() {
    const second = page.locator("#classes li:nth-child(2) button");
    if ((await second.count()) === 0) return null;
    await second.click();
    await page.waitForSelector('#classes li:nth-child(2) button[aria-pressed="true"]', LIMIT);
    return page.getAttribute("#canvas", "aria-label");
  }
} finally {
  await browser.close();
}

// The raw outputs for pixels and a target, by the page's own module.
async function run({ pixels, width, height, target }) {
  const { open } = await import("./model.mjs");
  const explanation = await (await fetch("explanation.json")).json();
  const model = await open(explanation, document.documentElement.dataset.backend);
  const { map, shape, scores } = await model.run(Uint8Array.from(pixels), width, height, target);
  return { map: Array.from(map), shape, scores: scores && Array.from(scores) };
}

function readCanvas() {
  const canvas = document.getElementById("canvas");
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}
