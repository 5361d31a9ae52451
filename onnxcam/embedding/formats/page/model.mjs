// The model in the browser: on the GPU by WebGPU if a device is there and takes the model, else on the CPU by WebAssembly.

const BACKENDS = {
  webgpu: { module: "ort.webgpu.bundle.min.mjs", binary: "ort-wasm-simd-threaded.asyncify.wasm" },
  wasm: { module: "ort.wasm.bundle.min.mjs", binary: "ort-wasm-simd-threaded.wasm" },
};
const MOST_THREADS = 4;

// A model that runs, and what to say about how. `requested` is "webgpu", "wasm" or null.
export async function open(explanation, requested) {
  const gpu = requested === "wasm" ? "WebAssembly was chosen" : await missingDevice();
  if (gpu !== null) return start("wasm", explanation, gpu);
  try {
    return await start("webgpu", explanation, "");
  } catch (error) {
    return start("wasm", explanation, `WebGPU refused the model: ${firstLine(error)}`);
  }
}

async function missingDevice() {
  if (!navigator.gpu) return "this browser has no WebGPU";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return adapter === null ? "there is no device for WebGPU" : null;
}

async function start(backend, explanation, reason) {
  const { module, binary } = BACKENDS[backend];
  const ort = await import(`./runtime/${module}`);
  const threads = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1) : 1;
  ort.env.wasm.wasmPaths = { wasm: new URL(`runtime/${binary}`, document.baseURI).href };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const externalData = explanation.data.map((path) => ({ path, data: path }));
  const options = { executionProviders: [backend], externalData, logSeverityLevel: 3 }; // errors
  const session = await ort.InferenceSession.create("explained.onnx", options);
  const device = backend === "webgpu" ? "the GPU (WebGPU)" : `the CPU (WebAssembly, ${threads} thread${threads > 1 ? "s" : ""})`;
  const hint = backend === "wasm" && threads === 1 ? "; more threads need the headers of cross-origin isolation" : "";
  return {
    backend,
    description: `Runs on ${device}${reason && `, because ${reason}`}${hint}.`,
    run: (pixels, width, height, target) => run(ort, session, explanation, pixels, width, height, target),
  };
}

// The outputs for one image of RGB pixels; `target` is a class, or -1 for the one with the highest score.
async function run(ort, session, explanation, pixels, width, height, target) {
  const { rows } = explanation;
  const repeated = new Uint8Array(rows * pixels.length);
  for (let row = 0; row < rows; row++) repeated.set(pixels, row * pixels.length);
  const feeds = { [explanation.pixels]: new ort.Tensor("uint8", repeated, [rows, height, width, 3]) };
  if (explanation.target !== null) {
    feeds[explanation.target] = new ort.Tensor("int64", new BigInt64Array(rows).fill(BigInt(target)), [rows]);
  }
  const names = [explanation.saliency, ...(explanation.score ? [explanation.score.output] : [])];
  const outputs = await session.run(feeds, names);
  const map = outputs[explanation.saliency];
  const [mapRows, mapColumns] = map.dims.slice(-2);
  const scores = explanation.score ? outputs[explanation.score.output].data.slice(0, explanation.score.classes) : null;
  return { map: map.data.slice(0, mapRows * mapColumns), shape: [mapRows, mapColumns], scores };
}

export function firstLine(error) {
  return String(error?.message ?? error).split("\n", 1)[0].slice(0, 200);
}
