"""Capture the activations of a language model's neurons on texts.

:func:`capture_activations` runs a model on texts and returns a
:class:`~skleiden.LayerStack` with one layer for each block of the model: the
activations of the neurons in the block's MLP (its feed-forward part), in one row for
each text (the mean over its tokens, their maximum, or the last token) or in one row for
each token. It knows where the neurons are in BERT, GPT-2, GPT-NeoX, OPT, Llama,
Mistral, Qwen, Gemma, T5 and models built like them. For any other model that takes
``input_ids``, name the modules, such as ``modules="encoder.layer.*.mlp.fc2"`` with
``side="input"``. It needs torch, and a tokenizer of transformers or a callable that
works like one: ``pip install "skleiden[capture]"``.

With ``out=``, activations are written to a Zarr folder as they are captured. A capture
that was stopped goes on from there when it is started again. The command ``skleiden
capture MODEL TEXTS --out acts.zarr`` does this in a shell.

Examples
--------
Here a model with random weights stands in for a real one,
``AutoModel.from_pretrained("gpt2")``:

>>> from skleiden.capture import capture_activations
>>> import torch
>>> from transformers import GPT2Config, GPT2Model
>>> _ = torch.manual_seed(0)
>>> model = GPT2Model(GPT2Config(vocab_size=256, n_embd=32, n_layer=3, n_head=2))
>>> def tokenizer(texts, max_length=None, **_):
...     return {"input_ids": [list(text.encode())[:max_length] for text in texts]}
>>> texts = ["Why is the sky blue?", "Who wrote Faust?"]
>>> capture_activations(model, texts, tokenizer)
LayerStack(2 rows; layer_0: 128, layer_1: 128, layer_2: 128)

With one row for each token, :func:`token_contexts` gives texts for these rows, in which
the token is marked (this tokenizer has numbers for tokens):

>>> from skleiden.capture import token_contexts
>>> tokens = capture_activations(model, texts, tokenizer, pool="tokens")
>>> tokens.ids[:2].tolist()
['0:0', '0:1']
>>> token_contexts(["sky"], tokenizer)["0:1"]
'115 <<107>> 121'

The result is what pipelines and :mod:`skleiden.inspection` take:

>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> pipeline = make_pipeline(MultiLayerTfidfSketcher(), MutualKNNLeiden())
>>> pipeline.fit_predict(tokens).shape
(36,)
"""

from ._capture import capture_activations
from ._tokens import token_contexts

__all__ = ["capture_activations", "token_contexts"]
