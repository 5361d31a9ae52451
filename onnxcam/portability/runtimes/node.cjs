// Runs the model of a job (see node.py) with onnxruntime-node: node node.cjs JOB.json
const fs = require("fs");
const path = require("path");

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

async function main(jobFile) {
  const job = JSON.parse(fs.readFileSync(jobFile, "utf8"));
  const ort = require(job.package);
  const session = await ort.InferenceSession.create(job.model, { logSeverityLevel: 4 });
  const feeds = {};
  for (const tensor of job.feeds) {
    const bytes = fs.readFileSync(tensor.file);
    const copy = new Uint8Array(bytes).buffer;
    const data = new ARRAYS[tensor.type](copy);
    feeds[tensor.name] = new ort.Tensor(tensor.type, data, tensor.dims);
  }
  const results = await session.run(feeds, job.outputs);
  const folder = path.dirname(jobFile);
  const described = job.outputs.map((name, index) => {
    const { type, dims, data } = results[name];
    const file = `output-${index}`;
    fs.writeFileSync(path.join(folder, file), Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    return { name, type, dims: Array.from(dims), file };
  });
  fs.writeFileSync(path.join(folder, "outputs.json"), JSON.stringify(described));
}

main(process.argv[2]).catch((error) => {
  console.error(`Error: ${error.message ?? error}`);
  process.exit(1);
});
