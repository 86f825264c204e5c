"""Give communities to scanpy and its kin as an AnnData file.

The file has activations, labels, embedding, map and graph under the names that scverse
tools look for, so that ``scanpy.tl.umap`` or ``scanpy.pl.embedding`` take it as it is.

    pip install skleiden anndata
    python benchmarks/example_anndata.py

Output, with anndata 0.12.19:

    AnnData object with n_obs × n_vars = 1268 × 9216
        obs: 'community', 'attached', 'text'
        var: 'layer', 'neuron'
        uns: 'neighbors', 'skleiden'
        obsm: 'X_map', 'X_skleiden'
        obsp: 'connectivities', 'distances'
    {'0': 97, '1': 91, '2': 88}
    [{'layer': 'layer_0', 'neuron': 0}, {'layer': 'layer_5', 'neuron': 1535}]
"""

import tempfile
from pathlib import Path

import anndata
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import load_prompt_activations
from skleiden.inspection import describe_communities
from skleiden.io import to_anndata


def main() -> None:
    data = load_prompt_activations()
    texts = dict(zip(data.ids.tolist(), data.prompts.tolist(), strict=True))
    job = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(data.data)
    found = describe_communities(job, data.data, texts=texts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prompts.h5ad")
        to_anndata(found, data.data, estimator=job).write_h5ad(path)
        adata = anndata.read_h5ad(path)
        print(adata)
        print(adata.obs["community"].value_counts().head(3).to_dict())
        print(adata.var.iloc[[0, -1]].to_dict("records"))
    # For pictures, with scanpy:
    # scanpy.tl.umap(adata)
    # scanpy.pl.embedding(adata, "X_map", color="community")


if __name__ == "__main__":
    main()
