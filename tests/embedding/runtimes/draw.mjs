// Runs functions of the page's draw.mjs for the calls in a JSON file, and prints the results: node draw.mjs DRAW.mjs CALLS.json

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [source, calls] = process.argv.slice(2);
const draw = await import(pathToFileURL(source));
const results = JSON.parse(readFileSync(calls, "utf8")).map(([name, ...values]) => draw[name](...values));
console.log(JSON.stringify(results, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)));
