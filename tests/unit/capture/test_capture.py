"""Captured activations are those of a plain loop with hooks."""

import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skleiden import LayerStack
from skleiden.capture import capture_activations, token_contexts
from skleiden.capture._tokens import batches

torch = pytest.importorskip("torch")

LETTERS = " abcdefghijklmnopqrstuvwxyz?"
START, END, VOCABULARY = 1, 2, 40
TEXTS = [
    "why is the sky blue?",
    "a",
    "how deep is the sea?",
    "to be or not to be",
    "no",
    "ab",
    "when does the long night end and the short day begin?",
]
# The texts of a plain loop are not padded, which changes the last digits.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class Tokenizer:
    """Letters as tokens, between two special ones, by the interface of transformers."""

    pad_token_id = 0
    is_fast = True

    def __init__(self, special=True, **also):
        self.special, self.also, self.calls = special, also, []

    def __call__(self, texts, *, truncation, max_length, return_special_tokens_mask,
                 return_offsets_mapping=False):  # fmt: skip
        assert truncation
        assert return_special_tokens_mask
        self.calls.append(len(texts))
        around = 2 * self.special
        found = {"input_ids": [], "special_tokens_mask": [], "attention_mask": []}
        if return_offsets_mapping:
            found["offset_mapping"] = []
        for text in texts:
            ids = [3 + LETTERS.index(letter) for letter in text][: max_length - around]
            offsets = [(i, i + 1) for i in range(len(ids))]
            mask = [0] * len(ids)
            if self.special:
                ids, mask = [START, *ids, END], [1, *mask, 1]
                offsets = [(0, 0), *offsets, (0, 0)]
            found["input_ids"].append(ids)
            found["special_tokens_mask"].append(mask)
            found["attention_mask"].append([1] * len(ids))
            if return_offsets_mapping:
                found["offset_mapping"].append(offsets)
        return found


C = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 0}
BART = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
WIDE = {"intermediate_size": 24}
KV = {"num_key_value_heads": 2}
# {architecture: (settings, the last projection of the block, with its number as {})}
ARCHITECTURES = {
    "Bert": (C | WIDE, "encoder.layer.{}.output.dense"),
    "GPT2": (GPT | {"n_inner": 24}, "h.{}.mlp.c_proj"),
    "GPTNeoX": (C | WIDE, "layers.{}.mlp.dense_4h_to_h"),
    "OPT": (C | {"ffn_dim": 24, "word_embed_proj_dim": 16}, "decoder.layers.{}.fc2"),
    "Llama": (C | WIDE, "layers.{}.mlp.down_proj"),
    "T5": (T5, "encoder.block.{}.layer.1.DenseReluDense.wo"),
    "Bart": (BART, "encoder.layers.{}.fc2"),
    "Qwen2": (C | WIDE | KV, "layers.{}.mlp.down_proj"),
    "Roberta": (C | WIDE | {"pad_token_id": 0}, "encoder.layer.{}.output.dense"),
    "DistilBert": (
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
        "transformer.layer.{}.ffn.lin2",
    ),
    "ModernBert": (
        C | WIDE | {"cls_token_id": 1, "sep_token_id": 2},
        "layers.{}.mlp.Wo",
    ),
    "GPTJ": (GPT | {"n_inner": 24, "rotary_dim": 4}, "h.{}.mlp.fc_out"),
    "GPTNeo": (
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, **WIDE}
        | {"attention_types": [[["global", "local"], 1]]},
        "h.{}.mlp.c_proj",
    ),
    "Starcoder2": (C | WIDE | KV, "layers.{}.mlp.c_proj"),
    "Phi": (C | WIDE, "layers.{}.mlp.fc2"),
    "Falcon": (C | {"ffn_hidden_size": 24}, "h.{}.mlp.dense_4h_to_h"),
    "Mpt": (
        {"d_model": 6, "n_heads": 2, "n_layers": 2},
        "blocks.{}.ffn.down_proj",
    ),
}


def make_model(architecture, head="Model", **also):
    """A tiny model with random weights, in evaluation."""
    transformers = pytest.importorskip("transformers")
    settings, _ = ARCHITECTURES[architecture]
    settings = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1,
                "eos_token_id": 2} | settings | also  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(**settings)
    model = getattr(transformers, f"{architecture}{head}")(config).eval()
    # The usual first weights are so small that a wrong row would hardly show.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def plain_loop(model, texts, names, *, special=True, pool="mean", **inputs):
    """What a user would write: one text a pass, hooks, no padding."""
    found = {name: [] for name in names}
    tokenizer = Tokenizer(special)
    for text in texts:
        settings = {"truncation": True, "max_length": 99}
        batch = tokenizer([text], return_special_tokens_mask=True, **settings)
        is_token = ~torch.tensor(batch["special_tokens_mask"][0], dtype=torch.bool)
        seen = {name: [] for name in names}
        handles = [
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, args, own=own: own.append(args[0])
            )
            for name, own in seen.items()
        ]
        with torch.no_grad():
            model(input_ids=torch.tensor(batch["input_ids"]), **inputs)
        for handle in handles:
            handle.remove()
        for name, (activations,) in seen.items():
            tokens = activations.reshape(-1, activations.shape[-1])
            if not inputs:  # else it is the decoder's one start token
                tokens = tokens[is_token]
            row = {
                "mean": lambda t: t.mean(0, keepdim=True),
                "max": lambda t: t.amax(0, keepdim=True),
                "last": lambda t: t[-1:],
                "tokens": lambda t: t,
            }[pool](tokens)
            found[name].append(row.numpy())
    return [np.concatenate(found[name]) for name in names]


def modules_of(architecture):
    _, pattern = ARCHITECTURES[architecture]
    return [pattern.format(number) for number in range(2)]


def part_of(architecture):
    """The part that is captured, as arguments."""
    return {"part": "encoder"} if architecture in ("T5", "Bart") else {}


@pytest.fixture(scope="module")
def bert():
    return make_model("Bert")


# --- Equal to a plain loop ------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture",
    [
        name if number < 6 else pytest.param(name, marks=pytest.mark.slow)
        for number, name in enumerate(ARCHITECTURES)
    ],
)
def test_known_architectures_are_captured_as_by_a_plain_loop(architecture):
    model = make_model(architecture)
    called, names = model, modules_of(architecture)
    if part_of(architecture):
        called = model.get_encoder()
        names = [name.removeprefix("encoder.") for name in names]
    expected = plain_loop(called, TEXTS, names)
    stack = capture_activations(
        model, TEXTS, Tokenizer(), batch_tokens=64, **part_of(architecture)
    )
    assert stack.names == ("layer_0", "layer_1")
    assert stack.widths == (24, 24)
    assert stack.ids.tolist() == [str(row) for row in range(len(TEXTS))]
    for layer, matrix in zip(stack.layers, expected, strict=True):
        assert layer.dtype == np.float32
        assert np.abs(matrix).max() > 0.1
        assert_allclose(layer, matrix, **CLOSE)


@pytest.mark.parametrize("pool", ["mean", "max", "last", "tokens"])
@pytest.mark.parametrize("architecture", ["Bert", "GPT2"])
def test_tokens_are_pooled_over_the_mask(architecture, pool):
    model, special = make_model(architecture), architecture == "Bert"
    expected = plain_loop(
        model, TEXTS, modules_of(architecture), special=special, pool=pool
    )
    tokenizer = Tokenizer(special)
    # Budgets of one text a batch, of several, of all.
    for batch_tokens in (1, 40, 10_000):
        stack = capture_activations(
            model, TEXTS, tokenizer, pool=pool, batch_tokens=batch_tokens
        )
        for layer, matrix in zip(stack.layers, expected, strict=True):
            assert_allclose(layer, matrix, **CLOSE)


@pytest.mark.parametrize("head", ["Model", "ForConditionalGeneration"])
@pytest.mark.parametrize("architecture", ["T5", "Bart"])
def test_decoders_start_with_their_token(architecture, head):
    model = make_model(architecture, head, decoder_start_token_id=2)
    ending = modules_of(architecture)[0].split(".0.")[1].replace("r.1", "r.2")
    names = [
        name
        for name, _ in model.named_modules()
        if "decoder" in name.split(".") and name.endswith(ending)
    ]
    assert len(names) == 2
    start = torch.full((1, 1), 2)
    expected = plain_loop(model, TEXTS, names, decoder_input_ids=start)
    stack = capture_activations(model, TEXTS, Tokenizer(), part="decoder")
    assert stack.names == ("layer_0", "layer_1")
    for layer, matrix in zip(stack.layers, expected, strict=True):
        assert_allclose(layer, matrix, **CLOSE)


def test_decoders_read_their_own_texts():
    model = make_model("T5", decoder_start_token_id=5)
    names = [f"decoder.block.{n}.layer.2.DenseReluDense.wo" for n in range(2)]
    said = ["it is", "yes", "no it is not", "be", "a", "b", "soon"]
    found = capture_activations(
        model, TEXTS, Tokenizer(), part="decoder", decoder_inputs=said, pool="tokens"
    )
    expected = []
    for text, answer in zip(TEXTS, said, strict=True):
        ids = [5, 1, *(3 + LETTERS.index(letter) for letter in answer)]
        (matrix,) = plain_loop(
            model, [text], names[1:], pool="tokens",
            decoder_input_ids=torch.tensor([ids]),
        )  # fmt: skip
        # What is special is left out, but for the token that starts.
        expected.append(np.delete(matrix, 1, axis=0))
    assert_allclose(found.layers[1], np.concatenate(expected), **CLOSE)
    assert found.ids[:4].tolist() == ["0:0", "0:2", "0:3", "0:4"]

    one = capture_activations(
        model, TEXTS, Tokenizer(), part="decoder", decoder_inputs="yes"
    )
    each = capture_activations(
        model, TEXTS, Tokenizer(), part="decoder", decoder_inputs=["yes"] * 7
    )
    assert_array_equal(one.layers[1], each.layers[1])
    assert len(one) == len(TEXTS)


class Plain(torch.nn.Module):
    """A module with names and inputs of its own, and no mask: bidirectional."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, 8)
        self.mix = torch.nn.GRU(8, 8, batch_first=True, bidirectional=True)
        self.parts = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh())
            for _ in range(3)
        )
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, tokens):
        hidden, _ = self.mix(self.embed(tokens))
        for part in self.parts:
            hidden = self.drop(part(hidden))
        return hidden


def test_any_module_is_captured_by_patterns():
    model = Plain().eval()
    tokenizer = Tokenizer()
    found = capture_activations(
        model, TEXTS, tokenizer, modules="parts.*.0", side="input"
    )
    assert found.names == ("parts.0.0", "parts.1.0", "parts.2.0")
    for row, text in enumerate(TEXTS):
        ids = [START, *(3 + LETTERS.index(letter) for letter in text), END]
        hidden, _ = model.mix(model.embed(torch.tensor([ids])))
        for layer, part in zip(found.layers, model.parts, strict=True):
            expected = hidden[0, 1:-1].mean(0).detach().numpy()
            # To the last digits: without a mask, no text is padded.
            assert_allclose(layer[row], expected, rtol=1e-5, atol=1e-6)
            hidden = part(hidden)
    given = capture_activations(
        model, TEXTS, tokenizer, modules=["parts.0.1", "**.2.*"], side="output"
    )
    assert given.names == ("parts.0.1", "parts.2.0", "parts.2.1")
    # The input of part 1 is the output of part 0 (dropout does nothing).
    assert_array_equal(given.layers[0], found.layers[1])


def test_a_star_is_one_part_of_a_name(bert):
    stack = capture_activations(
        bert, TEXTS, Tokenizer(), modules="encoder.layer.*.output.dense", side="input"
    )
    assert stack.names == tuple(modules_of("Bert"))  # and not those of attention
    known = capture_activations(bert, TEXTS, Tokenizer())
    assert_array_equal(stack.layers[1], known.layers[1])


def test_layers_come_in_natural_order():
    model = make_model("GPT2", n_layer=12)
    stack = capture_activations(model, TEXTS[:2], Tokenizer())
    assert stack.names == tuple(f"layer_{number}" for number in range(12))
    names = [f"h.{number}.mlp.c_proj" for number in range(12)]
    expected = plain_loop(model, TEXTS[:2], names)
    for layer, matrix in zip(stack.layers, expected, strict=True):
        assert_allclose(layer, matrix, **CLOSE)


def test_wrapped_models_are_found_by_the_ends_of_names():
    class Wrapper(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.inner = model

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    model = make_model("Llama", "ForCausalLM")
    wrapped = capture_activations(Wrapper(model), TEXTS, Tokenizer())
    plain = capture_activations(model, TEXTS, Tokenizer())
    expected = plain_loop(model, TEXTS, [f"model.{m}" for m in modules_of("Llama")])
    for one, other, matrix in zip(wrapped.layers, plain.layers, expected, strict=True):
        assert_array_equal(one, other)
        assert_allclose(one, matrix, **CLOSE)


def test_rows_of_tokens_flattened_by_a_module_are_told_apart():
    class Flat(torch.nn.Module):  # as OPT was
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(VOCABULARY, 8)
            self.fc2 = torch.nn.Linear(8, 8)

        def forward(self, input_ids, attention_mask):
            hidden = self.embed(input_ids)
            return self.fc2(hidden.reshape(-1, 8)).reshape(hidden.shape)

    model = Flat()
    stack = capture_activations(
        model, TEXTS, Tokenizer(), modules="fc2", side="input", pool="last"
    )
    last = [3 + LETTERS.index(text[-1]) for text in TEXTS]
    assert_array_equal(stack.layers[0], model.embed.weight.detach().numpy()[last])


# --- Types, devices, and the model as it was ------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float16, np.float16),
        (torch.bfloat16, np.float32),
        (torch.float32, np.float32),
        (torch.float64, np.float64),
    ],
)
@pytest.mark.parametrize("pool", ["mean", "max", "last", "tokens"])
def test_dtypes_are_kept(bert, dtype, stored, pool):
    expected = capture_activations(bert, TEXTS, Tokenizer(), pool=pool)
    try:
        found = capture_activations(bert.to(dtype), TEXTS, Tokenizer(), pool=pool)
    finally:
        bert.float()
    for layer, matrix in zip(found.layers, expected.layers, strict=True):
        assert layer.dtype == stored
        close = 1e-4 if stored == np.float64 else 0.15
        assert_allclose(layer, matrix, rtol=close, atol=close)


def test_half_precision_is_added_up_in_single():
    class Large(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(VOCABULARY, 2)
            torch.nn.init.constant_(self.embed.weight, 60_000)
            self.last = torch.nn.Identity()

        def forward(self, input_ids):
            return self.last(self.embed(input_ids))

    stack = capture_activations(
        Large().half(), TEXTS, Tokenizer(), modules="last", side="input"
    )
    assert stack.dtype == np.float16
    assert_allclose(stack.layers[0], 60_000, rtol=1e-3)


def hooks_of(model):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.modules()
    )


def test_a_model_is_left_as_it_was(bert):
    expected = capture_activations(bert, TEXTS, Tokenizer())
    before = {name: p.detach().clone() for name, p in bert.named_parameters()}
    bert.train()
    bert.encoder.layer[0].eval()  # as where a part is frozen
    training = [module.training for module in bert.modules()]
    try:
        found = capture_activations(bert, TEXTS, Tokenizer())
        assert [module.training for module in bert.modules()] == training
        with pytest.raises(ValueError, match="does not run"):
            capture_idle(bert)
        assert [module.training for module in bert.modules()] == training
    finally:
        bert.eval()
    assert_array_equal(found.layers[1], expected.layers[1])
    assert hooks_of(bert) == 0
    for name, parameter in bert.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    assert torch.is_grad_enabled()


def capture_idle(model):
    """Capture a module that does not run, which fails."""
    model.add_module("idle", torch.nn.Linear(2, 2))
    try:
        capture_activations(model, TEXTS, Tokenizer(), modules="idle", side="input")
    finally:
        del model.idle


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_hooks_are_removed_whatever_happens(error, monkeypatch):
    model = make_model("Bert")
    model.train()

    def fail(*_):
        raise error

    model.encoder.layer[1].output.dense.forward = fail
    with pytest.raises(error):
        capture_activations(model, TEXTS, Tokenizer())
    assert hooks_of(model) == 0
    assert all(module.training for module in model.modules())


def test_results_are_in_the_order_of_the_texts(bert):
    rng = np.random.default_rng(0)
    order = rng.permutation(len(TEXTS))
    found = capture_activations(bert, TEXTS, Tokenizer(), ids=list("abcdefg"))
    other = capture_activations(bert, {f"q{i}": TEXTS[i] for i in order}, Tokenizer())
    assert found.ids.tolist() == list("abcdefg")
    assert other.ids.tolist() == [f"q{i}" for i in order]
    assert_allclose(other.layers[0], found.layers[0][order], **CLOSE)


def test_progress_is_shown_when_asked_for(bert, capsys):
    capture_activations(bert, TEXTS, Tokenizer())
    assert capsys.readouterr().err == ""
    capture_activations(bert, TEXTS, Tokenizer(), verbose=1)
    assert "7/7" in capsys.readouterr().err


# --- Tokenizers -----------------------------------------------------------------------


def test_tokenizers_may_pad_and_give_tensors(bert):
    class Padding(Tokenizer):
        def __call__(self, texts, **settings):
            rows = super().__call__(texts, **settings)
            longest = max(map(len, rows["input_ids"]))
            fill = {"input_ids": 0, "special_tokens_mask": 1, "attention_mask": 0}
            # On the left, as tokenizers of decoders do.
            return {
                key: torch.tensor([[fill[key]] * (longest - len(v)) + v for v in own])
                for key, own in rows.items()
            }

    expected = capture_activations(bert, TEXTS, Tokenizer())
    found = capture_activations(bert, TEXTS, Padding())
    assert_array_equal(found.layers[1], expected.layers[1])


def test_inputs_that_a_model_takes_reach_it():
    class Typed(Tokenizer):
        def __call__(self, texts, **settings):
            found = super().__call__(texts, **settings)
            types = [[len(ids) % 2] * len(ids) for ids in found["input_ids"]]
            return found | {"token_type_ids": types, "length": list(range(len(texts)))}

    bert = make_model("Bert")
    typed = capture_activations(bert, TEXTS, Typed(), batch_tokens=64)
    plain = capture_activations(bert, TEXTS, Tokenizer(), batch_tokens=64)
    odd = np.array([len(text) % 2 == 1 for text in TEXTS])
    same = np.isclose(typed.layers[0], plain.layers[0], atol=1e-5).all(axis=1)
    assert_array_equal(same, ~odd)
    gpt2 = make_model("GPTNeoX")  # takes no such input
    assert_array_equal(
        capture_activations(gpt2, TEXTS, Typed()).layers[0],
        capture_activations(gpt2, TEXTS, Tokenizer()).layers[0],
    )


def test_tokenizers_of_transformers_are_taken():
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "why": 8}
    vocabulary |= {word: 4 + i for i, word in enumerate(("the", "sky", "is", "blue"))}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    own.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    model = make_model("Bert")
    texts = ["why is the sky blue", "the sky", "blue is the sky"]
    stack = capture_activations(model, texts, tokenizer)
    seen = []
    handle = model.encoder.layer[1].output.dense.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    with torch.no_grad():
        for text in texts:
            model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    for row, own in enumerate(seen):
        assert_allclose(stack.layers[1][row], own[0, 1:-1].mean(0), **CLOSE)
    marked = token_contexts(texts, tokenizer)
    assert list(marked) == list(
        capture_activations(model, texts, tokenizer, pool="tokens").ids
    )
    assert marked["1:2"] == "the <<sky>>"
    assert marked["0:1"] == "<<why>> is the sky blue"


def test_tokens_stand_in_their_context():
    long = "abcdefghi " * 30
    marked = token_contexts([TEXTS[0], long], Tokenizer())
    assert marked["0:1"] == "<<w>>hy is the sky blue?"
    assert marked["0:20"] == "why is the sky blue<<?>>"
    assert marked["1:151"] == (f"...{long[90:150]}<<a>>{long[151:211]}...")
    slow = Tokenizer()
    slow.is_fast = False
    slow.convert_ids_to_tokens = lambda ids: [f"t{i}" for i in ids]
    assert token_contexts(["abc"], slow)["0:2"] == "t1 t4 <<t5>> t6 t2"
    assert token_contexts([long], slow)["0:20"].count("...") == 2


def test_batches_hold_their_budget_and_all_texts():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(0, 12, rng.integers(1, 60))
        budget = int(rng.integers(1, 60))
        for one_length in (False, True):
            found = list(batches(lengths, budget, one_length=one_length))
            assert (
                sorted(np.concatenate([[], *found])) == np.flatnonzero(lengths).tolist()
            )
            for batch in found:
                longest = lengths[batch].max()
                assert batch.size * longest <= budget or batch.size == 1
                assert batch.size == 1 or batch.size != longest
                assert not one_length or len(set(lengths[batch])) == 1


# --- What is said, and what is refused ------------------------------------------------


@pytest.mark.parametrize("pool", ["mean", "max", "last", "tokens"])
@pytest.mark.parametrize("special", [True, False])
def test_texts_without_tokens_are_said(bert, pool, special):
    texts = ["ab", "", "cde", ""]
    end = "have no rows" if pool == "tokens" else "are rows of zeros"
    with pytest.warns(UserWarning, match=f"2 of 4 texts .*, and {end}.*text 1"):
        stack = capture_activations(bert, texts, Tokenizer(special), pool=pool)
    if pool == "tokens":
        assert stack.ids.tolist() == [
            f"{i}:{p + special}" for i, n in ((0, 2), (2, 3)) for p in range(n)
        ]
    else:
        for layer in stack.layers:
            assert_array_equal((layer != 0).any(axis=1), [True, False, True, False])
    with pytest.raises(
        ValueError, match="None of 1 texts has other tokens than special"
    ):
        capture_activations(bert, [""], Tokenizer(special))


def test_texts_that_are_cut_are_said(bert):
    with pytest.warns(UserWarning, match="4 of 7 texts have 8 tokens or more, .* max_"):
        stack = capture_activations(bert, TEXTS, Tokenizer(), max_tokens=8)
    short = capture_activations(bert, [text[:6] for text in TEXTS], Tokenizer())
    assert_allclose(stack.layers[0], short.layers[0], **CLOSE)
    limited = Tokenizer()
    limited.model_max_length = 8
    with pytest.warns(UserWarning, match="have 8 tokens or more"):
        again = capture_activations(bert, TEXTS, limited)
    assert_array_equal(again.layers[0], stack.layers[0])
    # A model has no positions beyond its own.
    small = make_model("GPT2", n_positions=9)
    with pytest.warns(UserWarning, match="4 of 7 texts have 9 tokens or more"):
        assert len(capture_activations(small, TEXTS, Tokenizer())) == len(TEXTS)


def test_layers_of_another_kind_are_said():
    model = make_model("Llama", num_hidden_layers=4)
    model.layers[2].mlp = torch.nn.Identity()  # as a mixture of experts
    with pytest.warns(UserWarning, match=r"1 of 4 layers have .*left out: layer_2\."):
        stack = capture_activations(model, TEXTS, Tokenizer())
    assert stack.names == ("layer_0", "layer_1", "layer_3")


def test_an_unknown_model_gets_its_candidates():
    transformers = pytest.importorskip("transformers")
    plain = r"a Plain cannot be found .*parts\.\*\.0 \(3 of Linear 16 x 16\)"
    with pytest.raises(ValueError, match=plain) as caught:
        capture_activations(Plain(), TEXTS, Tokenizer())
    assert "Llama" in str(caught.value)
    assert "embed" not in str(caught.value)
    config = transformers.MambaConfig(
        hidden_size=16, num_hidden_layers=2, vocab_size=VOCABULARY, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    mamba = transformers.MambaModel(config)
    with pytest.raises(ValueError, match=r"layers\.\*\.mixer\.out_proj \(2 of Lin"):
        capture_activations(mamba, TEXTS, Tokenizer())
    with pytest.raises(ValueError, match=r"'layers\.\*\.mlp', which names none"):
        capture_activations(
            mamba, TEXTS, Tokenizer(), modules="layers.*.mlp", side="input"
        )
    with pytest.raises(ValueError, match=r"Its modules are: \*\."):
        capture_activations(torch.nn.Sequential(torch.nn.ReLU()), TEXTS, Tokenizer())


def test_several_stacks_of_layers_are_told_apart():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vision, self.text = make_model("Bert"), make_model("Bert")

        def forward(self, **inputs):
            return self.text(**inputs)

    with pytest.raises(
        ValueError, match=r"several stacks of MLPs, \['vision\.enc"
    ) as e:
        capture_activations(Two(), TEXTS, Tokenizer())
    (chosen,) = re.findall(r"'(text\.[^']*)'", str(e.value))
    model = Two()
    stack = capture_activations(model, TEXTS, Tokenizer(), modules=chosen, side="input")
    expected = capture_activations(model.text, TEXTS, Tokenizer())
    assert_array_equal(stack.layers[1], expected.layers[1])
    with pytest.raises(ValueError, match=r"'vision.*' does not run .* nor do 1 others"):
        capture_activations(
            model, TEXTS, Tokenizer(), modules=chosen.replace("text", "vision"),
            side="input",
        )  # fmt: skip


def test_stacks_that_differ_by_number_are_told_apart():
    class Towers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.towers = torch.nn.ModuleList([make_model("OPT"), make_model("OPT")])

        def forward(self, **inputs):
            return [tower(**inputs) for tower in self.towers]

    with pytest.raises(ValueError, match=r"'towers\.0\.decoder.*'towers\.1\.decoder"):
        capture_activations(Towers(), TEXTS, Tokenizer())


def test_shared_layers_are_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.AlbertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=40,
        embedding_size=16, intermediate_size=24,
    )  # fmt: skip
    with pytest.raises(ValueError, match="ffn_output' runs more than once in a pass"):
        capture_activations(
            transformers.AlbertModel(config), TEXTS, Tokenizer(),
            modules="**.ffn_output", side="input",
        )  # fmt: skip


class Odd(torch.nn.Module):
    """A module of which parts give what cannot be pooled."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 4)
        for name in ("whole", "swapped", "number", "broken", "pair"):
            self.add_module(name, torch.nn.Identity())

    def forward(self, input_ids, attention_mask):
        hidden = self.embed(input_ids)
        self.whole(hidden.mean(dim=1))
        self.swapped(hidden.transpose(0, 1))
        self.number(input_ids)
        self.broken(hidden * 1e30 * 1e30)
        self.pair((hidden, None))


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        ("whole", ValueError, r"'whole' must have a vector for each token.*\(1, 4\)"),
        ("swapped", ValueError, r"'swapped' must have a vector for each token"),
        ("number", TypeError, r"'number' must take and give tensors of real .*int64"),
        ("broken", ValueError, r"'broken' has activations that are NaN or infinite"),
    ],
)
def test_what_cannot_be_pooled_is_refused(module, error, message):
    # As many texts as tokens, so that swapped axes could pass for right.
    texts = ["abcd", "bcde", "cdef", "defg"]
    tokenizer = Tokenizer(special=False)
    with pytest.raises(error, match=message):
        capture_activations(Odd(), texts, tokenizer, modules=module, side="output")


def test_the_first_of_several_outputs_is_taken():
    model, tokenizer = Odd(), Tokenizer(special=False)
    stack = capture_activations(model, ["a"], tokenizer, modules="pair", side="output")
    assert_array_equal(stack.layers[0], model.embed.weight[4:5].detach())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pool": "sum"}, ValueError, "pool must be one of .*'mean', .*; got 'sum'"),
        ({"side": "left"}, ValueError, "side must be one of .*; got 'left'"),
        ({"modules": "**.dense"}, ValueError, "side must say .* side=None"),
        ({"modules": [], "side": "input"}, ValueError, "must name at least one module"),
        ({"part": "encoder"}, ValueError, "part is for models .* BertModel is not one"),
        (
            {"decoder_inputs": "a"},
            ValueError,
            "decoder_inputs are only used with part='decoder'",
        ),
        ({"max_tokens": 0}, ValueError, "max_tokens must be at least 1; got 0"),
        ({"batch_tokens": 0}, ValueError, "batch_tokens must be at least 1; got 0"),
        ({"texts": "a text"}, TypeError, "sequence of texts.*; got a single str"),
        ({"texts": []}, ValueError, "texts must hold at least one text; got none"),
        ({"texts": ["a", None]}, TypeError, "must be strings; got NoneType as text 1"),
        ({"texts": {"a": "a"}, "ids": ["a"]}, ValueError, "ids are the keys of texts"),
        ({"ids": ["a"] * 7}, ValueError, "ids must not repeat"),
        ({"ids": ["a"]}, ValueError, "one id per row"),
        ({"tokenizer": lambda *_, **__: []}, TypeError, "a mapping with 'input_ids'"),
        (
            {"tokenizer": lambda *_, **__: {"input_ids": [[1]]}},
            ValueError,
            "tokens for each of 7 texts; got tokens for 1",
        ),
    ],
)
def test_bad_arguments_are_refused(bert, settings, error, message):
    given = {"texts": TEXTS, "tokenizer": Tokenizer()} | settings
    with pytest.raises(error, match=message):
        capture_activations(bert, **given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "which part of a T5Model is captured.*; got None"),
        ({"part": "both"}, "'encoder' or 'decoder'; got 'both'"),
        ({"part": "decoder"}, "does not say which token the decoder starts with"),
        (
            {"part": "decoder", "modules": "encoder.block.0.**.wo", "side": "input"},
            "modules must belong to the part that is captured, the decoder",
        ),
    ],
)
def test_parts_are_chosen(settings, message):
    model = make_model("T5", decoder_start_token_id=None)
    with pytest.raises(ValueError, match=message):
        capture_activations(model, TEXTS, Tokenizer(), **settings)


def test_inputs_of_decoders_are_one_for_each_text():
    with pytest.raises(ValueError, match="one for each of 7 texts; got 2"):
        capture_activations(
            make_model("T5"), TEXTS, Tokenizer(), part="decoder",
            decoder_inputs=["a", "b"],
        )  # fmt: skip


def test_nothing_is_warned_of_where_nothing_is_left_out(bert):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(capture_activations(bert, TEXTS, Tokenizer()), LayerStack)
