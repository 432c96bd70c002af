"""The command sparse-adapter on checkpoints of real training."""

import json
import os
import subprocess

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu, load_model_ensemble_and_task
from fairseq.models import BaseFairseqModel
from safetensors.torch import load_file
from sparse_adapter.modules import is_adapter_key

from ..commands import run
from .conftest import LANGUAGES, error_line, succeed

ALL = ["--required-batch-size-multiple", "1"]  # stock fairseq drops the last batch otherwise
SPARSE = ["--pruner", "magnitude", "--sparsity", "0.4", "--dropout", "0"]
RUNS = {
    "houlsby": [
        *SPARSE,
        "--adapter-only-checkpoints",
        "--save-interval-updates",
        "2",
        "--validate-interval-updates",
        "2",
    ],
    "lora": [*SPARSE, "--adapter", "lora", "--lora-rank", "4", "--lr", "0.03"],
    "mixed": [*SPARSE, "--adapter", "lora+prefix", "--lora-rank", "4", "--prefix-length", "3", "--prefix-mlp", "6"],
}


@pytest.fixture(scope="module")
def checkpoints(project, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("cli")
    for name, options in RUNS.items():
        succeed(project.train(folder / name, *options))
    return {name: folder / name / "checkpoint_last.pt" for name in RUNS}


def cli(*arguments) -> subprocess.CompletedProcess:
    return run("sparse-adapter", *arguments)


def hypotheses(result) -> list[str]:
    return sorted(line for line in succeed(result).splitlines() if line.startswith("H-"))


def stock_generate(project, checkpoint) -> list[str]:
    """What fairseq-generate says without --user-dir. On today's torch it then reads nothing without the variable."""
    arguments = [str(project.data), "--cpu", "--path", str(checkpoint), "--task", "translation", *LANGUAGES]
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    return hypotheses(run("fairseq-generate", *arguments, "--beam", "3", "--max-len-b", "12", *ALL, env=environment))


def text(lines: list[str]) -> list[str]:
    return [line.split("\t")[0] + line.split("\t")[2] for line in lines]


def test_info_says_what_the_file_holds(checkpoints, tmp_path):
    plot, report = tmp_path / "density.png", tmp_path / "report.json"
    out = succeed(cli("info", checkpoints["houlsby"], "--plot", plot, "--json", report))
    assert "3,072 of 5,120 weights (sparsity 0.4000)" in out
    assert "decoder.layers.1" in out and "houlsby encoder_attn" in out
    assert "--adapter-bottleneck 8" in out and "magnitude, global, sparsity 0.4" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    trained = json.loads((checkpoints["houlsby"].parent / "sparsity.json").read_text())
    told = json.loads(report.read_text())
    assert told["matrix_total"]["kept"] == 3072
    assert told == {key: trained[key] for key in told}


def test_an_adapter_file_decodes_like_its_checkpoint(project, checkpoints, tmp_path):
    file = tmp_path / "shared" / "adapter.safetensors"
    succeed(cli("extract", checkpoints["houlsby"], file))
    trained = load_checkpoint_to_cpu(str(checkpoints["houlsby"]))["model"]
    assert all(torch.equal(value, trained[key]) for key, value in load_file(file).items())
    config = json.loads(file.with_suffix(".json").read_text())
    assert config["summary"]["sparsity"] == pytest.approx(0.4)
    assert config["model"]["adapter"] == "houlsby"
    assert "data" not in config["task"]
    assert hypotheses(project.generate(file)) == hypotheses(project.generate(checkpoints["houlsby"]))
    assert "complete, 3,072 of 5,120" in succeed(cli("check", file, "--backbone", project.backbone))


def test_an_adapter_file_loads_in_python(project, checkpoints, tmp_path):
    file = tmp_path / "adapter.safetensors"
    succeed(cli("extract", checkpoints["houlsby"], file))
    (model,), _, task = load_model_ensemble_and_task([str(file)], {"data": str(project.data)})
    assert task.source_dictionary == model.encoder.dictionary
    trained = load_checkpoint_to_cpu(str(checkpoints["houlsby"]))["model"]
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in trained.items())


def test_training_goes_on_from_an_adapter_file(project, checkpoints, tmp_path):
    file = tmp_path / "adapter.safetensors"
    succeed(cli("extract", checkpoints["houlsby"], file))
    start = [*SPARSE, "--adapter-only-checkpoints", "--finetune-from-model", str(file)]
    out = succeed(project.train(tmp_path / "run", *start, "--max-update", "1"))
    assert "not pruned again" in out
    succeed(project.train(tmp_path / "run", *start, "--max-update", "2"))
    state = load_checkpoint_to_cpu(str(tmp_path / "run" / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert state["cfg"].model.backbone == str(project.backbone)


def test_training_goes_on_from_the_adapter_file_of_another_machine(project, checkpoints, tmp_path):
    file = tmp_path / "adapter.safetensors"
    succeed(cli("extract", checkpoints["houlsby"], file))
    sidecar = file.with_suffix(".json")
    config = json.loads(sidecar.read_text())
    config["model"]["backbone"] = "/their/machine/model.pt"
    sidecar.write_text(json.dumps(config))
    start = [*SPARSE, "--finetune-from-model", str(file), "--max-update", "1"]
    assert "name it with --backbone" in error_line(project.train(tmp_path / "refused", *start))
    succeed(project.train(tmp_path / "run", *start, "--backbone", str(project.backbone)))
    state = load_checkpoint_to_cpu(str(tmp_path / "run" / "checkpoint_last.pt"))
    assert state["cfg"].model.backbone == str(project.backbone)


def test_adapters_trained_in_half_precision_know_their_backbone(project, tmp_path):
    succeed(project.train(tmp_path / "run", *SPARSE, "--memory-efficient-fp16", "--max-update", "2"))
    checkpoint, file = tmp_path / "run" / "checkpoint_last.pt", tmp_path / "adapter.safetensors"
    rounded, exact = (load_checkpoint_to_cpu(str(path))["model"] for path in (checkpoint, project.backbone))
    assert not torch.equal(rounded["encoder.layers.0.fc1.weight"], exact["encoder.layers.0.fc1.weight"])
    succeed(cli("extract", checkpoint, file))
    assert len(hypotheses(project.generate(file, *ALL))) == 20
    # A run in full precision that starts from them leaves the rounded weights as they are.
    start = ["--finetune-from-model", str(checkpoint), "--max-update", "1"]
    succeed(project.train(tmp_path / "next", *SPARSE, *start))
    succeed(cli("extract", tmp_path / "next" / "checkpoint_last.pt", tmp_path / "again.safetensors"))
    for trained in (checkpoint, file, tmp_path / "again.safetensors"):
        assert "the backbone fits" in succeed(cli("check", trained, "--backbone", project.backbone))


def test_nothing_in_a_shared_file_is_run(checkpoints, tmp_path):
    file, marker = tmp_path / "adapter.safetensors", tmp_path / "ran"
    succeed(cli("extract", checkpoints["houlsby"], file))
    sidecar = file.with_suffix(".json")
    config = json.loads(sidecar.read_text())
    config["model"]["encoder_xformers_att_config"] = f"open({str(marker)!r}, 'w')"
    sidecar.write_text(json.dumps(config))
    assert "is not run" in error_line(cli("info", file))
    assert not marker.exists()


def test_half_precision_and_whole_checkpoints(checkpoints, tmp_path):
    file = tmp_path / "lora.safetensors"
    succeed(cli("extract", checkpoints["lora"], file, "--fp16"))
    whole = load_checkpoint_to_cpu(str(checkpoints["lora"]))["model"]
    tensors = load_file(file)
    assert set(tensors) == {key for key in whole if is_adapter_key(key)}
    floats = [key for key in tensors if whole[key].is_floating_point()]
    assert floats and all(torch.equal(tensors[key], whole[key].half()) for key in floats)
    assert len(json.loads(file.with_suffix(".json").read_text())["model"]["backbone_fingerprint"]) == 64
    assert "; the backbone is in it (" in succeed(cli("check", checkpoints["lora"]))


def test_merged_lora_needs_no_plugin(project, checkpoints, tmp_path):
    merged = tmp_path / "merged.pt"
    assert "a plain fairseq checkpoint, architecture bart_base" in succeed(cli("merge", checkpoints["lora"], merged))
    with_plugin = hypotheses(project.generate(checkpoints["lora"]))
    without = stock_generate(project, merged)
    assert text(without) == text(with_plugin)
    assert text(without) != text(stock_generate(project, project.backbone))
    scores = [[float(line.split("\t")[1]) for line in lines] for lines in (without, with_plugin)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_files_are_loaded_by_fairseq_s_interface_for_python(project, checkpoints, tmp_path):
    succeed(cli("merge", checkpoints["lora"], tmp_path / "merged.pt"))
    succeed(cli("extract", checkpoints["lora"], tmp_path / "lora.safetensors"))
    lines = (project.data / "dict.source.txt").read_text().split()[:8:2]
    translations = [
        BaseFairseqModel.from_pretrained(str(tmp_path), name, str(project.data)).translate(lines, beam=3, max_len_b=12)
        for name in ("merged.pt", "lora.safetensors")
    ]
    assert len(translations[0]) == 4 and all(translations[0]) and translations[0] == translations[1]


def test_other_families_are_made_dense(project, checkpoints, tmp_path):
    merged = tmp_path / "merged.pt"
    assert "dense prefix, needs --user-dir" in succeed(cli("merge", checkpoints["mixed"], merged))
    keys = [key for key in load_checkpoint_to_cpu(str(merged))["model"] if is_adapter_key(key)]
    assert keys and all(key.endswith(("source.key.values", "source.value.values")) for key in keys)
    assert text(hypotheses(project.generate(merged))) == text(hypotheses(project.generate(checkpoints["mixed"])))


def test_the_average_of_one_run(project, checkpoints, tmp_path):
    folder = checkpoints["houlsby"].parent
    files = [folder / "checkpoint_1_2.pt", folder / "checkpoint_1_4.pt"]
    succeed(cli("average", *files, tmp_path / "average.pt"))
    first, second, mean = (load_checkpoint_to_cpu(str(f))["model"] for f in (*files, tmp_path / "average.pt"))
    for key, value in mean.items():
        expected = (first[key] + second[key]) / 2 if value.is_floating_point() else first[key]
        torch.testing.assert_close(value, expected)
    assert len(hypotheses(project.generate(tmp_path / "average.pt"))) == 20


def test_a_backbone_with_a_row_more_for_the_mask(project, tmp_path):
    """As bart.large has it, and the data's dictionary has not."""
    state = torch.load(project.backbone, weights_only=False)
    for key in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        state["model"][key] = torch.cat([state["model"][key], torch.ones(1, 32)])
    torch.save(state, tmp_path / "masked.pt")
    backbone = ["--finetune-from-model", str(tmp_path / "masked.pt"), "--max-update", "1"]
    succeed(project.train(tmp_path / "run", *RUNS["houlsby"], *backbone))
    file = tmp_path / "adapter.safetensors"
    succeed(cli("extract", tmp_path / "run" / "checkpoint_last.pt", file))
    assert "; the backbone fits (" in succeed(cli("check", file))
    assert "complete" in succeed(cli("check", file, "--backbone", tmp_path / "masked.pt"))


def test_what_cannot_work_is_refused_in_one_line(project, checkpoints, tmp_path):
    out = tmp_path / "out.pt"
    assert "--adapter houlsby and lora" in error_line(cli("average", checkpoints["houlsby"], checkpoints["lora"], out))
    assert "there is no such file" in error_line(cli("info", tmp_path / "none.pt"))
    assert ".safetensors" in error_line(cli("extract", checkpoints["lora"], out))
    for command in ("merge", "average"):
        refused = error_line(cli(command, checkpoints["lora"], out.with_suffix(".safetensors")))
        assert "choose a name that ends in .pt" in refused
    assert "which has no adapters" in error_line(cli("merge", project.backbone, out))
    assert not out.exists()
    out.write_text("mine")
    assert "--force" in error_line(cli("merge", checkpoints["lora"], out))
    assert out.read_text() == "mine"

    other = torch.load(project.backbone, weights_only=False)
    other["model"]["encoder.layers.0.fc1.weight"][0, 0] += 1e-3
    torch.save(other, tmp_path / "other.pt")
    for name in ("houlsby", "lora"):
        refused = error_line(cli("check", checkpoints[name], "--backbone", tmp_path / "other.pt"))
        assert "not the backbone" in refused

    # That of a RoBERTa, and of none; and one that itself holds adapters.
    other["model"] = {f"encoder.sentence_{key}": value for key, value in other["model"].items() if "decoder" not in key}
    torch.save(other, tmp_path / "other.pt")
    adapters = tmp_path / "lora.safetensors"
    succeed(cli("extract", checkpoints["lora"], adapters))
    for command in (("check", checkpoints["lora"]), ("merge", adapters, tmp_path / "merged.pt")):
        refused = error_line(cli(*command, "--backbone", tmp_path / "other.pt"))
        assert "other.pt" in refused, command
    refused = error_line(cli("check", checkpoints["houlsby"], "--backbone", checkpoints["lora"]))
    assert "holds adapters and is no plain backbone" in refused


def test_a_report_does_not_replace_what_it_is_about(checkpoints, tmp_path):
    file = tmp_path / "adapter.safetensors"
    succeed(cli("extract", checkpoints["houlsby"], file))
    for option in ("--json", "--plot"):
        assert f"belongs to {file}" in error_line(cli("info", file, option, file.with_suffix(".json")))
    report = tmp_path / "report.json"
    succeed(cli("info", file, "--json", report))
    assert f"{report} exists" in error_line(cli("info", file, "--json", report))
    succeed(cli("info", file, "--json", report, "--force"))


def test_errors_of_the_system_are_one_line(checkpoints, tmp_path):
    (tmp_path / "file").touch()
    assert "File exists" in error_line(cli("extract", checkpoints["houlsby"], tmp_path / "file" / "a.safetensors"))


def test_what_an_adapter_only_checkpoint_would_lose_is_refused(project, checkpoints, tmp_path):
    merged, out = tmp_path / "merged.pt", tmp_path / "run"
    succeed(cli("merge", checkpoints["mixed"], merged))
    start = ("--adapter", "prefix", "--prefix-length", "3", "--finetune-from-model", str(merged))
    refused = error_line(project.train(out, *start, "--adapter-only-checkpoints"))
    assert "is in no other file" in refused and not list(out.glob("*.pt"))
