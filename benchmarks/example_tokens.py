"""Find communities of tokens instead of prompts.

With ``pool="tokens"`` each token is a row, whose text is the token in its context. Here
the model is a tiny BERT with random weights, which tells little but which word a token
is; two lines make it a real one.

    pip install "skleiden[capture]"
    python benchmarks/example_tokens.py

Output, with torch 2.13 and transformers 5.24:

    LayerStack(3850 rows; layer_0: 64, layer_1: 64) of 300 prompts
    row 0:0 is: <<please>> discuss syncopation, time signatures and sonata form
    community 0: and 276x, all 1x
    community 1: the 226x
    community 2: a 86x
    in community 0: ... saturn, has a thick atmosphere, <<and>> what of the rings ...
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.capture import capture_activations, token_contexts
from skleiden.datasets import load_prompt_activations
from skleiden.inspection import describe_communities


def load(texts: list[str]) -> tuple[Any, Any]:
    """Make a model and a tokenizer that knows the words of the texts."""
    # For a real one:
    # name = "EleutherAI/pythia-70m"
    # return AutoModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    words = sorted({word for text in texts for word in text.split()})
    known = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(known, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    model = BertModel(config)
    model.embeddings.position_embeddings.weight.data.zero_()  # let words tell more
    return model, fast


def main() -> None:
    prompts = load_prompt_activations().prompts[:300]
    texts = [prompt.lower().rstrip("?.") for prompt in prompts]
    model, tokenizer = load(texts)
    stack = capture_activations(model, texts, tokenizer, pool="tokens")
    contexts = token_contexts(texts, tokenizer)
    print(f"{stack} of {len(texts)} prompts")
    rows = list(contexts.values())
    print(f"row {next(iter(contexts))} is: {rows[0]}")
    job = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0),
        MutualKNNLeiden(15, resolution=4, random_state=0),
    ).fit(stack)
    found = describe_communities(job, stack, texts=contexts)
    tokens = np.array([row.split("<<")[1].split(">>")[0] for row in rows])
    for community in range(3):
        words = Counter(tokens[found.labels == community].tolist()).most_common(3)
        print(f"community {community}:", ", ".join(f"{w} {n}x" for w, n in words))
    central = found.representatives[0].central[0].row
    print("in community 0:", rows[central])


if __name__ == "__main__":
    main()
