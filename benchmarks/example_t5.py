"""Find communities of queries in the decoder of a T5 Differentiable Search Index.

Such a model maps a query to the id of a document. What its decoder's neurons do at the
start token, after their ReLU, is captured in layers 17 to 23. Here the model is a tiny
T5 with random weights, of as many layers, which know nothing of what a query is about;
two lines make it the real one.

    pip install "skleiden[capture]"
    python benchmarks/example_t5.py

Output, with torch 2.13 and transformers 5.24:

    7 layers of 128 neurons, 1268 queries
    7 communities, neurons weighted by idf
    community 0: neuron 49 of block 22 fires in 98% of its queries, 68% of others
    community 1: neuron 126 of block 19 fires in 89% of its queries, 38% of others
    community 2: neuron 19 of block 23 fires in 98% of its queries, 62% of others
"""

from typing import Any
from zlib import crc32

import torch
from sklearn.pipeline import make_pipeline
from transformers import T5Config, T5ForConditionalGeneration

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.capture import capture_activations
from skleiden.datasets import load_prompt_activations
from skleiden.inspection import describe_communities

LAYERS = range(17, 24)


def tokenizer(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
    """Map words to numbers by a hash, and end with T5's end of text, 1."""
    words = [text.lower().strip("?.").split() for text in texts]
    return {
        "input_ids": [[2 + crc32(w.encode()) % 4998 for w in t] + [1] for t in words]
    }


def main() -> None:
    torch.manual_seed(0)
    # For the real one:
    # model = T5ForConditionalGeneration.from_pretrained("AnReu/DSI-large-TriviaQA")
    # tokenizer = AutoTokenizer.from_pretrained("AnReu/DSI-large-TriviaQA")
    config: Any = T5Config(
        vocab_size=5000, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4,
        num_decoder_layers=24,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    data = load_prompt_activations()
    queries = dict(zip(data.ids.tolist(), data.prompts.tolist(), strict=True))
    # The input of a block's last projection is what its neurons do, after the ReLU. The
    # decoder is given its start token alone, unless decoder_inputs says otherwise.
    modules = [f"decoder.block.{n}.layer.2.DenseReluDense.wo" for n in LAYERS]
    stack = capture_activations(
        model, queries, tokenizer, modules=modules, side="input", part="decoder"
    )
    print(f"{len(LAYERS)} layers of {stack.widths[0]} neurons, {len(stack)} queries")
    job = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(stack)
    found = describe_communities(job, stack, texts=queries)
    weighting = " and ".join(sorted(set(job[0].weighting_)))
    print(f"{job[-1].n_clusters_} communities, neurons weighted by {weighting}")
    for community in range(3):
        best = found.top_features[community][0]
        block = best.layer.split(".")[2]
        print(
            f"community {community}: neuron {best.neuron} of block {block} fires in "
            f"{best.share:.0%} of its queries, {best.baseline_share:.0%} of others"
        )


if __name__ == "__main__":
    main()
