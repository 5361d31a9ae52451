"""DIANNA, LIME, OpenVINO XAI and LeGrad."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from scripts.bench.contestants import CLASS, Run, random_image
from scripts.bench.peers.running import at_fastest_batch, probabilities_of, quietly, tensor_image
from scripts.openvino_precision import compiled_in_float32

SEGMENTS = 7  # of LIME, along each side


def dianna(job: dict[str, Any]) -> Run:
    """DIANNA's RISE."""
    settings, probabilities = job["settings"], probabilities_of(job)
    rise = import_module("dianna.methods.rise_image").RISEImage(
        settings["masks"], 7, 0.5, {0: "channels"}
    )
    image = random_image(job)[0]

    def make_run(batch: int) -> Run:
        return lambda: rise.explain(probabilities, image, [CLASS], batch_size=batch)

    return at_fastest_batch(make_run, settings["masks"])


def lime(job: dict[str, Any]) -> Run:
    """LIME with a grid of segments."""
    explainer = import_module("lime.lime_image").LimeImageExplainer(random_state=0)
    probabilities, samples = probabilities_of(job), job["settings"]["samples"]
    image = np.moveaxis(random_image(job)[0], 0, 2).astype(np.float64)
    rows, columns = (np.arange(side) * SEGMENTS // side for side in image.shape[:2])
    segments = rows[:, None] * SEGMENTS + columns

    def classify(images: Any) -> Any:
        return probabilities(np.moveaxis(images, 3, 1))

    def make_run(batch: int) -> Run:
        return lambda: explainer.explain_instance(
            image,
            classify,
            labels=(CLASS,),
            top_labels=None,
            num_samples=samples,
            batch_size=batch,
            segmentation_fn=lambda _: segments,
        )

    return at_fastest_batch(make_run, samples)


# OpenVINO XAI

OPENVINO_XAI = {"recipro-cam": "ReciproCAM", "activation-map": "ActivationMap", "rise": "RISE"}


def openvino_xai(job: dict[str, Any]) -> Run:
    """Its method on the same file, in OpenVINO's runtime."""
    openvino = import_module("openvino")
    methods = import_module("openvino_xai.methods")
    model, image = openvino.Core().read_model(job["path"]), random_image(job)
    make = getattr(methods, OPENVINO_XAI[job["method"]])
    if job["method"] == "rise":
        masks = job["settings"]["masks"]
        with compiled_in_float32(job["threads"]):
            rise = make(model, lambda outputs: outputs[0])
        return quietly(
            lambda: rise.generate_saliency_map(image, [CLASS], num_masks=masks, num_cells=7)
        )
    written = {
        name: node.get_friendly_name()
        for node in model.get_ops()
        for output in node.outputs()
        for name in output.get_names()
    }
    with compiled_in_float32(job["threads"]):
        explain = make(model, target_layer=written[job["layer"]], embed_scaling=False)
    return lambda: explain.generate_saliency_map(image)


def legrad(job: dict[str, Any]) -> Run:
    """LeGrad of an image tower of CLIP with the same blocks; its target is a text instead of a class."""
    torch = import_module("torch")
    torch.set_num_threads(job["threads"])
    model = import_module("open_clip").create_model("ViT-B-16")
    wrapped = import_module("legrad").LeWrapper(model.eval(), layer_index=0)
    text = torch.nn.functional.normalize(torch.randn(1, 512), dim=-1)
    x = tensor_image(job).detach()
    return lambda: wrapped.compute_legrad(text, x)
