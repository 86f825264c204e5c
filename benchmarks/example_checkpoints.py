"""Compare the communities of two checkpoints of one model.

The same texts pass through both, and rows are found by their ids. Here the model is a
tiny BERT with random weights, and its later checkpoint has some noise added to them;
changing two lines takes real checkpoints.

    pip install "skleiden[capture]"
    python benchmarks/example_checkpoints.py

Output, with torch 2.13 and transformers 5.24:

    AMI 0.545, ARI 0.464 on 1268 rows; 415 of them (32.7%) moved
    community 0 split into 5 and 1
    communities 6 and 7 merged into 1
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import torch
from sklearn.pipeline import make_pipeline
from transformers import BertConfig, BertModel

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.capture import capture_activations
from skleiden.datasets import load_prompt_activations
from skleiden.inspection import Communities, compare, describe_communities


def tokenizer(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
    """Map words to numbers by a hash."""
    words = [text.lower().strip("?.").split() for text in texts]
    return {"input_ids": [[1 + crc32(w.encode()) % 999 for w in t] for t in words]}


def checkpoints() -> Iterator[BertModel]:
    """Give a model at two steps of its training."""
    # For real ones, with the tokenizer of the same name:
    # for step in ("step1000", "step143000"):
    #     yield AutoModel.from_pretrained("EleutherAI/pythia-70m", revision=step)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    model = BertModel(config)
    yield model
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * weights.std() * torch.randn_like(weights))
    yield model


def communities(model: Any, texts: dict[str, str]) -> Communities:
    """Find the communities of the texts in one checkpoint."""
    stack = capture_activations(model, texts, tokenizer)
    job = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(stack)
    return describe_communities(job, stack, texts=texts)


def main() -> None:
    data = load_prompt_activations()
    texts = dict(zip(data.ids.tolist(), data.prompts.tolist(), strict=True))
    before, after = (communities(model, texts) for model in checkpoints())
    found = compare(before, after)
    print("\n".join(found.describe()))


if __name__ == "__main__":
    main()
