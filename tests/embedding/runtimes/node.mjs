// The recipe of the README for Node, with pixels from a JSON file; prints the outputs: node node.mjs MODEL INPUT.json

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const [model, input] = process.argv.slice(2);
const { pixels, width, height, target } = JSON.parse(readFileSync(input, "utf8"));
const session = await ort.InferenceSession.create(model);
const outputs = await session.run({
  pixels: new ort.Tensor("uint8", Uint8Array.from(pixels), [1, height, width, 3]),
  target: new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]),
});
const { data, dims } = outputs.saliency;
console.log(JSON.stringify({ map: Array.from(data), shape: dims.slice(-2) }));
