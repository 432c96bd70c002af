"""What fairseq-train does with the hook: density, files, resume, determinism, refusals."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from sparse_adapter.pruning import PRUNERS

from ..commands import REPOSITORY, run
from .conftest import BIN, LANGUAGES, SIZES, error_line, succeed

SPARSE = ("--pruner", "snip", "--sparsity", "0.4", "--prune-batches", "3")


def model_of(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different


@pytest.fixture(scope="module")
def sparse_run(project, tmp_path_factory) -> Path:
    """The folder of a run with SPARSE: nothing here is changed."""
    folder = tmp_path_factory.mktemp("sparse")
    succeed(project.train(folder, *SPARSE))
    return folder


@pytest.mark.parametrize("pruner", sorted(PRUNERS))
def test_log_and_report_agree_on_what_is_trained(project, tmp_path, pruner):
    output = succeed(project.train(tmp_path, "--pruner", pruner, "--sparsity", "0.6", "--prune-batches", "2"))
    report = json.loads((tmp_path / "sparsity.json").read_text())
    assert report["matrix_total"]["kept"] == round(0.4 * report["matrix_total"]["total"])
    trained = int(re.search(r"num\. trained: ([\d,]+)", output)[1].replace(",", ""))
    assert (
        trained
        == report["trained"]["total"]
        == sum(report["trained"][kind] for kind in ("matrices", "biases", "layer_norms", "others"))
    )
    state = model_of(tmp_path / "checkpoint_last.pt")
    saved = sum(v.numel() for k, v in state.items() if ".sparse_adapter." in k and k.endswith(".values"))
    assert saved == report["trained"]["matrices"]


def test_the_scope_is_the_one_asked_for_and_the_seed_that_of_training(project, tmp_path):
    options = ("--pruner", "random", "--sparsity", "0.4", "--prune-scope", "matrix", "--prune-shuffle", "--seed", "7")
    succeed(project.train(tmp_path, *options))
    report = json.loads((tmp_path / "sparsity.json").read_text())
    assert (report["scope"], report["shuffled"], report["seed"]) == ("matrix", True, 7)
    densities = {row["density"] for row in report["matrices"]}
    assert max(densities) - min(densities) < 0.01  # by rank over all matrices, it is more than 0.1


def test_only_adapters_change_and_their_masks_do_not(project, sparse_run):
    report = json.loads((sparse_run / "sparsity.json").read_text())  # written before the first update
    assert report["mask_sha256"][:16] in succeed(run("sparse-adapter", "info", sparse_run / "checkpoint_last.pt"))
    before, after = model_of(project.backbone), model_of(sparse_run / "checkpoint_last.pt")
    assert_same(before, {key: value for key, value in after.items() if ".sparse_adapter." not in key})


def test_optimizer_state_shrinks_with_sparsity(sparse_run):
    report = json.loads((sparse_run / "sparsity.json").read_text())
    state = torch.load(sparse_run / "checkpoint_last.pt", weights_only=True)["last_optimizer_state"]["state"]
    assert sum(slot["exp_avg"].numel() for slot in state.values()) == report["trained"]["total"]


def test_sparsity_zero_is_bitwise_training_without_a_pruner(project, tmp_path):
    succeed(project.train(tmp_path / "without"))
    succeed(project.train(tmp_path / "with", "--pruner", "snip", "--sparsity", "0"))
    assert_same(*(model_of(tmp_path / name / "checkpoint_last.pt") for name in ("without", "with")))


def test_a_seed_gives_the_same_weights_and_another_seed_other_masks(project, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        succeed(project.train(tmp_path / name, "--pruner", "random", "--sparsity", "0.5", "--prune-seed", seed))
    a, b, c = (model_of(tmp_path / name / "checkpoint_last.pt") for name in "abc")
    assert_same(a, b)
    assert any(not torch.equal(a[key], c[key]) for key in a if "mask" in key)


def test_killed_and_relaunched_gives_the_same_weights(project, tmp_path):
    arguments = (*SPARSE, "--max-update", "24", "--save-interval-updates", "4")
    succeed(project.train(tmp_path / "whole", *arguments))

    command = [BIN / "fairseq-train", *project.train_args(tmp_path / "killed", *arguments)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "checkpoint_last.pt").exists():
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reached = torch.load(tmp_path / "killed" / "checkpoint_last.pt", weights_only=True)["optimizer_history"][-1]
    assert reached["num_updates"] < 24, "the run was over before it could be killed"

    report = (tmp_path / "killed" / "sparsity.json").read_text()
    output = succeed(project.train(tmp_path / "killed", *arguments))
    assert "not pruned again" in output
    assert (tmp_path / "killed" / "sparsity.json").read_text() == report
    assert_same(*(model_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "killed")))


def test_a_relaunch_in_a_later_epoch_has_the_same_batches(project, tmp_path):
    """Which sentences of one length share a batch is chance. An epoch has 6 updates: it stops within, and after one."""
    arguments = (*SPARSE, "--max-tokens", "768", "--disable-validation", "--max-epoch", "4", "--max-update")
    succeed(project.train(tmp_path / "whole", *arguments, "99"))
    for updates, epoch in (("9", 2), ("12", 2), ("99", 4)):
        output = succeed(project.train(tmp_path / "stopped", *arguments, updates))
        assert f"end of epoch {epoch} " in output
        assert updates == "99" or f"num_updates: {updates} >= max_update" in output
    assert_same(*(model_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "stopped")))


@pytest.mark.parametrize(
    "option, expected",
    [
        (("--adapter-activation", "gelu"), "--adapter-activation relu, and this command asks for gelu"),
        (("--adapter-bottleneck", "16"), "--adapter-bottleneck 8"),
        (("--adapter", "pfeiffer"), "--adapter houlsby"),
    ],
    ids=lambda value: "",
)
def test_a_relaunch_with_other_adapters_is_refused(project, sparse_run, option, expected):
    line = error_line(project.train(sparse_run, *SPARSE, *option))
    assert expected in line and "--save-dir" in line


def test_adapters_in_some_layers(project, tmp_path):
    """They are pruned, saved without the backbone, decoded and gone on with as those in all layers are."""
    some = (*SPARSE, "--adapter-layers", "decoder.1", "--adapter-only-checkpoints")
    succeed(project.train(tmp_path, *some))
    report = json.loads((tmp_path / "sparsity.json").read_text())
    assert {row["layer"] for row in report["matrices"]} == {"decoder.layers.1"}
    assert report["matrix_total"]["kept"] == round(0.6 * report["matrix_total"]["total"])
    assert all(key.startswith("decoder.layers.1.") for key in model_of(tmp_path / "checkpoint_last.pt"))
    succeed(project.generate(tmp_path / "checkpoint_last.pt"))
    assert "not pruned again" in succeed(project.train(tmp_path, *some, "--max-update", "6"))
    line = error_line(project.train(tmp_path, *some, "--adapter-layers", "decoder"))
    assert "--adapter-layers decoder.1, and this command asks for decoder" in line


def test_a_relaunch_with_other_settings_says_so(project, sparse_run, tmp_path):
    shutil.copytree(sparse_run, tmp_path / "run")
    report = tmp_path / "run" / "sparsity.json"
    report.write_text("")  # as a loss of power leaves it
    assert "goes on where it stopped, though" not in succeed(project.train(tmp_path / "run", *SPARSE))
    assert json.loads(report.read_text())["mask_sha256"]
    output = succeed(project.train(tmp_path / "run", *SPARSE, "--lr", "0.004"))
    assert "goes on where it stopped, though --lr was [0.003] and is [0.004]" in output


def test_a_relaunch_of_full_fine_tuning_says_what_is_other(project, tmp_path):
    full, other = ("--adapter", "none"), tmp_path / "other.pt"
    assert "goes on" not in succeed(project.train(tmp_path / "run", *full))
    shutil.copyfile(project.backbone, other)
    output = succeed(project.train(tmp_path / "run", *full, "--finetune-from-model", str(other)))
    assert f"goes on where it stopped, though --finetune-from-model was {project.backbone} and is {other}" in output
    assert "is of a run without adapters: choose another --save-dir" in error_line(project.train(tmp_path / "run"))


def without_backbone(arguments: list[str]) -> list[str]:
    index = arguments.index("--finetune-from-model")
    return arguments[:index] + arguments[index + 2 :]


def test_a_backbone_is_not_restored(project, tmp_path):
    arguments = without_backbone(project.train_args(tmp_path / "run", *SPARSE))
    for flag in ("--continue-once", "--restore-file"):
        line = error_line(run("fairseq-train", *arguments, flag, str(project.backbone)))
        assert f"{flag} {project.backbone} is a backbone" in line and "--finetune-from-model" in line
    assert not (tmp_path / "run" / "sparsity.json").exists()


def test_another_backbone_than_the_one_to_start_from_is_refused(project, tmp_path):
    shutil.copyfile(project.backbone, tmp_path / "other.pt")
    for named, message in (("none.pt", "there is no such file"), ("other.pt", "is for adapters that were trained on")):
        assert message in error_line(project.train(tmp_path / "run", "--backbone", str(tmp_path / named)))
    full = ("--adapter", "none", "--backbone", str(project.backbone))
    for updates in ("1", "2"):
        succeed(project.train(tmp_path / "run", *full, "--max-update", updates))


def test_the_report_is_of_the_adapters_that_are_restored(project, sparse_run, tmp_path):
    shutil.copytree(sparse_run, tmp_path / "run")
    (tmp_path / "run" / "checkpoint_last.pt").unlink()
    sparser = ("--pruner", "random", "--sparsity", "0.75")
    succeed(project.train(tmp_path / "other", *sparser))
    restored = str(tmp_path / "other" / "checkpoint_last.pt")
    arguments = without_backbone(project.train_args(tmp_path / "run", *sparser, "--restore-file", restored))
    succeed(run("fairseq-train", *arguments, "--reset-optimizer", "--reset-dataloader", "--reset-meters"))
    other, now = (json.loads((tmp_path / name / "sparsity.json").read_text()) for name in ("other", "run"))
    assert now["mask_sha256"] == other["mask_sha256"] and now["adapters_of"].startswith(str(tmp_path / "other"))


def test_a_task_that_does_not_prune_says_so(project, tmp_path):
    said = "TranslationTask neither prunes adapters nor checks that they have a backbone"
    assert said in succeed(project.train(tmp_path, "--task", "translation"))
    assert said not in succeed(project.train(tmp_path / "full", "--task", "translation", "--adapter", "none"))
    decoded = project.generate(tmp_path / "checkpoint_last.pt", "--task", "translation")
    assert decoded.returncode == 0 and said not in decoded.stdout + decoded.stderr


def test_adafactor_gains_nothing_by_pruning_and_says_so(project, tmp_path):
    options = ("--pruner", "random", "--sparsity", "0.5", "--max-update", "1", "--optimizer", "adafactor")
    assert "its state is larger than that of dense adapters" in succeed(project.train(tmp_path, *options))


def test_a_relaunch_with_another_sparsity_is_refused(project, sparse_run):
    line = error_line(project.train(sparse_run, "--pruner", "snip", "--sparsity", "0.8"))
    assert "0.4" in line and "0.8" in line and "--save-dir" in line


def test_full_fine_tuning_trains_everything(project, tmp_path):
    succeed(project.train(tmp_path, "--adapter", "none"))
    before, after = model_of(project.backbone), model_of(tmp_path / "checkpoint_last.pt")
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in before if key.endswith("weight")} <= changed


@pytest.mark.parametrize(
    "options",
    [("--checkpoint-activations",), ("--update-freq", "2"), ("--amp",), ("--prune-max-tokens", "40")],
    ids=lambda options: options[0],
)
def test_fairseq_options_go_together_with_pruning(project, tmp_path, options):
    succeed(project.train(tmp_path, "--pruner", "grasp", "--sparsity", "0.5", "--prune-batches", "1", *options))
    report = json.loads((tmp_path / "sparsity.json").read_text())
    assert report["matrix_total"]["density"] == 0.5


REFUSED = {
    "sparsity of one": (("--pruner", "snip", "--sparsity", "1"), "--sparsity 1"),
    "nothing would stay": ((*SPARSE, "--sparsity", "0.99999"), "--sparsity 0.99999 leaves none"),
    "negative sparsity": (("--pruner", "snip", "--sparsity", "-0.1"), "--sparsity -0.1"),
    "unknown pruner": (("--pruner", "snipp", "--sparsity", "0.4"), "unknown pruner 'snipp'; choose"),
    "a pruner without a sparsity": (("--pruner", "snip"), "--pruner snip needs a --sparsity"),
    "sparsity without a pruner": (("--sparsity", "0.4"), "--sparsity 0.4 needs a --pruner"),
    "batches below the longest example": (
        (*SPARSE, "--prune-max-tokens", "3"),
        "examples are longer and would not be scored",
    ),
    "batches of no token": ((*SPARSE, "--prune-max-tokens", "0"), "--prune-max-tokens 0"),
    "nothing to prune": ((*SPARSE, "--adapter", "none"), "nothing to prune"),
    "a shuffle of nothing": (("--prune-shuffle",), "--prune-shuffle needs a --pruner"),
    "unknown scope": ((*SPARSE, "--prune-scope", "model"), "unknown --prune-scope 'model'"),
    "unknown precision": (("--matmul-precision", "low"), "highest, high or medium"),
    "unknown kernel": (("--attention-kernel", "flash"), "choose math"),
    "unknown dropout": (("--dropout-kernel", "cuda"), "unknown --dropout-kernel 'cuda'; choose torch or fast"),
    "unknown adapter": (("--adapter", "houlsbi"), "unknown adapter 'houlsbi'; choose"),
    "bottleneck of zero": (("--adapter-bottleneck", "0"), "the dimension must be at least 1"),
    "Large-Sparse and another sparsity": ((*SPARSE, "--large-sparse", "4"), "--large-sparse 4 is sparsity 0.75"),
    "Large-Sparse and sparsity 0": (
        ("--pruner", "snip", "--sparsity", "0", "--large-sparse", "4"),
        "--large-sparse 4 is sparsity 0.75: leave out --sparsity 0",
    ),
    "Large-Sparse without a pruner": (("--large-sparse", "2"), "--large-sparse 2 needs a --pruner"),
    "Large-Sparse of zero": (("--large-sparse", "0"), "--large-sparse 0"),
    "Large-Sparse of what does not grow": (
        ("--adapter", "prefix", "--prefix-mlp", "4", "--pruner", "snip", "--large-sparse", "2"),
        "embedding",
    ),
    "a layer that is not there": (("--adapter-layers", "decoder.9"), "--adapter-layers decoder.9"),
    "prefix of zero": (("--adapter", "prefix", "--prefix-length", "0"), "--prefix-length 0"),
    "rank above the dimension": (("--adapter", "lora", "--lora-rank", "33"), "LoRA rank of 33"),
    "LoRA nowhere": (("--adapter", "lora", "--lora-sites", "q,fc3"), "--lora-sites q,fc3"),
    "uneven budget": (("--adapter", "mam", "--mam-budget", "6"), "multiple of 4"),
    "fusion without files": (("--adapter", "adapter_fusion"), "needs --fusion-adapters"),
    "missing backbone": (("--finetune-from-model", "nowhere/model.pt"), "there is no such file"),
    "backbone of another size": (("--encoder-embed-dim", "64", "--decoder-embed-dim", "64"), "does not fit --arch"),
    "backbone of other heads": (("--encoder-attention-heads", "8"), "with --encoder-attention-heads 4"),
    "backbone of another depth": (("--decoder-layers", "3"), "transformer layers and the model"),
    "nothing to train": (("--adapter", "none", "--freeze-backbone"), "nothing to train"),
    "EMA of a model without": (("--store-ema",), "which has no EMA weights"),
    "criterion without a dataclass": (
        (*SPARSE, "--criterion", "composite_loss", "--underlying-criterion", "cross_entropy"),
        "--criterion composite_loss",
    ),
    "layers to keep": (("--encoder-layers-to-keep", "0"), "save the smaller backbone first"),
    "quantisation noise": (("--quant-noise-pq", "0.1"), "noise"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_ends_in_one_line_and_writes_nothing(project, tmp_path, name):
    options, expected = REFUSED[name]
    assert expected in error_line(project.train(tmp_path / "run", *options))
    assert not list((tmp_path / "run").glob("*"))


def test_no_backbone_at_all_is_refused_unless_meant(project, tmp_path):
    arguments = without_backbone(project.train_args(tmp_path))
    assert "--finetune-from-model" in error_line(run("fairseq-train", *arguments))
    succeed(run("fairseq-train", *arguments, "--random-backbone"))


def test_truncated_backbone_is_refused(project, tmp_path):
    truncated = tmp_path / "model.pt"
    truncated.write_bytes(project.backbone.read_bytes()[:20000])
    line = error_line(project.train(tmp_path / "run", "--finetune-from-model", str(truncated)))
    assert str(truncated) in line


class Evil:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("command", ["train", "generate"])
def test_malicious_checkpoint_is_refused_and_not_run(project, tmp_path, command):
    evil, marker = tmp_path / "evil.pt", tmp_path / "executed"
    torch.save({"model": {}, "args": Evil(f"touch {marker}")}, evil)
    if command == "train":
        result = project.train(tmp_path / "run", "--finetune-from-model", str(evil))
    else:
        result = project.generate(evil)
    assert "system" in error_line(result)
    assert not marker.exists()


def test_an_architecture_of_fairseq_trains_and_resumes(project, tmp_path):
    """A backbone is pretrained with the same task and no adapters."""
    arguments = [str(project.data), "--user-dir", str(REPOSITORY / "user_dir"), "--task", "sparse_adapter_translation"]
    arguments += [*LANGUAGES, "--arch", "transformer", *SIZES, "--criterion", "label_smoothed_cross_entropy", "--cpu"]
    arguments += ["--optimizer", "adam", "--lr", "0.003", "--max-tokens", "256", "--num-workers", "0"]
    arguments += ["--save-interval-updates", "2"]
    for updates, folder in (("4", "whole"), ("2", "resumed"), ("4", "resumed")):
        succeed(run("fairseq-train", *arguments, "--save-dir", str(tmp_path / folder), "--max-update", updates))
    assert_same(*(model_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "resumed")))
