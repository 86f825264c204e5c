"""Files that are broken in any way: a named error, or the right numbers."""

import io
import json
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skleiden import LayerStack, MutualKNNLeiden
from skleiden.inspection import Communities
from skleiden.io import (
    load_activations,
    load_communities,
    load_estimator,
    load_texts,
    save_communities,
    save_estimator,
)

X = np.random.default_rng(0).random((6, 4)).astype("f4")


def npy(path):
    with path.open("wb") as file:  # NumPy would change the name
        np.save(file, X)


def npz(path):
    np.savez(path, x=X, ids=np.arange(6))


def compressed(path):
    np.savez_compressed(path, x=X)


def sparse(path):
    sp.save_npz(path, sp.csr_array(X))


def tensors(path):
    from safetensors.numpy import save_file

    save_file({"x": X}, path, {"ids": json.dumps(list(range(6)))})


def torch_file(path):
    import torch

    torch.save({f"q{i}": torch.as_tensor(row) for i, row in enumerate(X)}, path)


def old_torch_file(path):
    import torch

    content = {f"q{i}": torch.as_tensor(row) for i, row in enumerate(X)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def json_file(path):
    path.write_text(json.dumps({f"q{i}": row.tolist() for i, row in enumerate(X)}))


ACTIVATIONS = {
    "npy": npy,
    "npz": npz,
    "compressed": compressed,
    "sparse": sparse,
    "tensors": tensors,
    "torch": torch_file,
    "old torch": old_torch_file,
    "json": json_file,
}


@pytest.fixture(scope="module", params=ACTIVATIONS)
def whole(request, tmp_path_factory):
    """The bytes of a file that is right."""
    path = tmp_path_factory.mktemp("whole") / "layer.npz"
    ACTIVATIONS[request.param](path)
    return path.read_bytes()


@st.composite
def damages(draw):
    """What becomes of a file's bytes: some changed, some gone, some added."""
    kind = draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
    place = draw(st.floats(0, 1))
    content = draw(st.binary(min_size=1, max_size=8))

    def damage(data):
        at = int(place * (len(data) - 1))
        if kind == "change":
            return data[:at] + content + data[at + len(content) :]
        if kind == "cut":
            return data[:at]
        if kind == "insert":
            return data[:at] + content + data[at:]
        return data[:at] + data[at // 2 :]

    return damage


def loaded_or_refused(load, path, **options):
    """What is loaded, or None after an error that names the file or its layer."""
    try:
        return load(path, **options)
    except ValueError as error:
        if path.stem not in str(error):
            raise
        return None


FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(damage=damages(), mmap=st.booleans())
def test_damaged_activations(tmp_path, whole, damage, mmap):
    path = tmp_path / "layer.npz"
    path.write_bytes(damage(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that read the file
        stack = loaded_or_refused(load_activations, path, mmap=mmap)
    if stack is not None:
        assert isinstance(stack, LayerStack)
        assert all(layer.shape[0] == len(stack) for layer in stack.layers)


@FUZZ
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("load", [load_activations, load_texts])
def test_any_bytes(tmp_path, content, load):
    path = tmp_path / "layer.npz"
    path.write_bytes(content)
    loaded_or_refused(load, path)


@FUZZ
@given(damage=damages())
@pytest.mark.parametrize("load", [load_communities, load_estimator])
def test_damaged_results(tmp_path, load, damage):
    path = tmp_path / "saved"
    if load is load_communities:
        known = {"texts": list("abcd"), "stability": [0.5, 1.0]}
        save_communities(path, Communities([0, 0, 1, -1], **known))
    else:
        save_estimator(path, MutualKNNLeiden(2, small_clusters="keep").fit(X))
    path.write_bytes(damage(path.read_bytes()))
    loaded_or_refused(load, path)


def test_archive_of_an_archive(tmp_path):
    inner = io.BytesIO()
    np.savez(inner, x=X)
    np.savez(tmp_path / "a.npz", x=np.frombuffer(inner.getvalue(), dtype=np.uint8))
    with pytest.raises(ValueError, match="2-D arrays; got arrays of shapes"):
        load_activations(tmp_path / "a.npz")
