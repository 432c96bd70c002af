"""sparse-adapter translate on checkpoints of real training; the Python class has tests of its own in serving/."""

import re

import pytest
import torch
from sparse_adapter.serving import Translator

from ..commands import run
from .conftest import error_line, succeed

SPARSE = ["--adapter-only-checkpoints", "--pruner", "snip", "--dropout", "0", "--max-update", "12", "--lr", "0.02"]
RUNS = {
    "houlsby": ["--sparsity", "0.4"],
    "lora": ["--adapter", "lora", "--lora-rank", "4", "--lora-sites", "q,k,v,out,fc1,fc2", "--sparsity", "0.2"],
    "prefix": ["--adapter", "prefix", "--prefix-length", "3", "--prefix-mlp", "6", "--sparsity", "0.5"],
}
BEAM = {"beam": 3, "max_len_b": 12}


@pytest.fixture(scope="module")
def files(project, tmp_path_factory) -> dict:
    """A file of adapters by its domain: three checkpoints, and an adapter file of one of them."""
    folder = tmp_path_factory.mktemp("domains")
    for name, options in RUNS.items():
        succeed(project.train(folder / name, *SPARSE, *options))
    files = {name: folder / name / "checkpoint_last.pt" for name in RUNS}
    shared = folder / "shared.safetensors"
    succeed(run("sparse-adapter", "extract", files["houlsby"], shared))
    return files | {"shared": shared}


@pytest.fixture(scope="module")
def generated(project, files) -> dict[str, list[tuple[str, str, str]]]:
    """What fairseq-generate makes of the test set with every file: sources, translations and scores, in order."""

    def generate(file) -> list[tuple[str, str, str]]:
        output = succeed(project.generate(file))
        sources = dict(re.findall(r"^S-(\d+)\t(.*)$", output, re.MULTILINE))
        found = {i: (text, score) for i, score, text in re.findall(r"^D-(\d+)\t(\S+)\t(.*)$", output, re.MULTILINE)}
        return [(sources[i], *found[i]) for i in sorted(sources, key=int)]

    return {name: generate(file) for name, file in {"none": project.backbone, **files}.items()}


def translate(project, files: dict, lines: list[str], *extra) -> object:
    adapters = [word for name, file in files.items() for word in ("--adapter", f"{name}={file}")]
    options = ["--backbone", project.backbone, "--data", project.data, "--beam", "3", "--max-len-b", "12"]
    return run("sparse-adapter", "translate", *options, *adapters, *extra, input="".join(f"{x}\n" for x in lines))


def test_every_domain_is_translated_as_fairseq_generate_does(project, files, generated):
    """All at once, in turns, over several buffers and batches: the order is that of the lines."""
    count = len(generated["none"])
    asked = [(name, *generated[name][i][:2]) for i in range(count) for name in generated]
    lines = [f"{'' if name == 'none' and i % 2 else name}\t{source}" for i, (name, source, _) in enumerate(asked)]
    for limits in ([], ["--buffer-size", "7", "--batch-size", "2"]):
        output = translate(project, files, lines, *limits)
        assert succeed(output) == output.stdout  # nothing but translations, and no progress where there is no terminal
        assert output.stdout.splitlines() == [text for _, _, text in asked]
    by_domain = {tuple(text for _, text, _ in rows) for rows in generated.values()}
    assert len(by_domain) == len(RUNS) + 1  # each domain says something else; "shared" is "houlsby"


def test_whole_checkpoints_are_served_too(project, tmp_path, generated):
    succeed(project.train(tmp_path / "run", *SPARSE[1:], *RUNS["houlsby"]))
    translator = Translator.load(project.backbone, {"x": tmp_path / "run" / "checkpoint_last.pt"}, **BEAM)
    assert translator.translate([row[0] for row in generated["houlsby"]], "x") == [r[1] for r in generated["houlsby"]]


@pytest.mark.parametrize(
    "line, message",
    [
        ("houlsbi\tba", "line 3: unknown domain 'houlsbi'; did you mean 'houlsby'?"),
        ("x\tba", "line 3: unknown domain 'x'; there are none, houlsby"),
        ("ba bo", "line 3: it has no tab"),
        ("", "line 3: it has no tab"),
        ("houlsby\t" + "ba " * 64, "line 3: the text has 65 tokens, and the model or --max-tokens allows 64"),
    ],
)
def test_a_line_that_cannot_be_translated_loses_none_before_it(project, files, generated, line, message):
    (first, plain, _), (second, _, _) = generated["none"][:2]
    lines = [f"none\t{first}", f"houlsby\t{second}", line, f"none\t{first}"]
    result = translate(project, {"houlsby": files["houlsby"]}, lines)
    assert message in error_line(result)
    assert result.returncode == 2
    assert result.stdout.splitlines() == [plain, generated["houlsby"][1][1]]


def test_what_cannot_work_is_refused_in_one_line(project, files, tmp_path):
    other = torch.load(project.backbone, weights_only=False)
    other["model"]["encoder.layers.0.fc1.weight"][0, 0] += 1e-3
    torch.save(other, tmp_path / "other.pt")
    smaller = tmp_path / "data"
    smaller.mkdir()
    for name in ("dict.source.txt", "dict.target.txt"):
        (smaller / name).write_text("".join((project.data / name).read_text().splitlines(keepends=True)[:-8]))
    torch.save({"model": {}}, tmp_path / "not.pt")
    houlsby, none = {"houlsby": files["houlsby"]}, tmp_path / "none.pt"
    for adapters, options, message in (
        (houlsby, ["--backbone", tmp_path / "other.pt"], "is not the backbone that"),
        (houlsby, ["--backbone", none], f"{none}: there is no such file"),
        (houlsby, ["--backbone", files["houlsby"]], "holds adapters: --backbone is the plain model"),
        ({"x": none}, [], f"{none}: there is no such file"),
        ({"x": project.backbone}, [], "holds no adapters"),
        ({"none": files["houlsby"]}, [], "the domain 'none' is the backbone without adapters"),
        (houlsby, ["--adapter", f"houlsby={none}"], "--adapter houlsby is there twice"),
        (houlsby, ["--adapter", "houlsby"], "write NAME=FILE"),
        (houlsby, ["--data", smaller], "has a dictionary of"),
        (houlsby, ["--data", tmp_path], "dict.source.txt is not there"),
        (houlsby, ["--target-lang", "xx"], "dict.xx.txt is not there"),
        (houlsby, ["--bpe", "sentencepiece"], "--bpe sentencepiece needs --sentencepiece-model"),
        (houlsby, ["--bpe", "sentencepiece", "--sentencepiece-model", none], "--bpe sentencepiece cannot be used"),
        (houlsby, ["--beam", "0"], "--beam 0: at least 1"),
        (houlsby, ["--buffer-size", "0"], "--buffer-size 0: at least 1"),
        (houlsby, ["--device", "abacus"], "--device abacus: choose cpu or cuda"),
        (houlsby, ["--device", "meta"], "--device meta: choose cpu or cuda"),
    ):
        result = translate(project, adapters, ["none\tba"], *options)
        assert message in error_line(result)
        assert result.stdout == ""
