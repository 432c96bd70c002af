"""examples/summarization: what train.sh asks of fairseq, the count of updates, what evaluate.sh leaves behind."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "summarization"


@pytest.fixture
def run(tmp_path):
    """Run a script in an environment whose fairseq commands are stubs; returns the process.

    ``python`` answers that there is no GPU and that there are 25 updates, and runs score.py for real.
    """
    bin = tmp_path / "venv" / "bin"
    bin.mkdir(parents=True)
    stubs = {
        "python": f'case "$*" in *device_count*) echo 0;; *is_available*) echo False;; *count_updates*) echo 25;; '
        f'*) exec "{sys.executable}" "$@";; esac',
        "fairseq-train": 'printf "%s\\n" "$@" > "$CALL"',
        "fairseq-generate": 'printf "%s\\n" "$@" > "$CALL"; cat "$OUTPUT"; exit "$STATUS"',
    }
    for name, line in stubs.items():
        (bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin / name).chmod(0o755)
    data = tmp_path / "data" / "news"
    data.mkdir(parents=True)
    (data / "dict.source.txt").touch()
    (data / "prepare.json").write_text(json.dumps({"settings": {"max_source": 400}, "splits": {}}, indent=1))
    (tmp_path / "model.pt").touch()

    def run(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
        known = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        paths = {"VENV": str(tmp_path / "venv"), "DATA": "data/news", "CALL": str(tmp_path / "call")}
        environment = {**known, **paths, "BACKBONE": "model.pt", **settings}
        command = ["bash", str(EXAMPLE / script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


def call(tmp_path: Path) -> dict[str, str]:
    """The flags of the last fairseq command; of a repeated one the last, as argparse has it."""
    words = (tmp_path / "call").read_text().splitlines()
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {word: "" if value.startswith("--") else value for word, value in pairs if word[:2] == "--"}


def test_defaults_prune_with_snip_on_the_cpu(run, tmp_path):
    done = run("train.sh")
    assert done.returncode == 0, done.stderr
    flags = call(tmp_path)
    expected = {
        "--arch": "sparse_adapter_bart_mini",
        "--adapter": "houlsby",
        "--adapter-bottleneck": "64",
        "--pruner": "snip",
        "--sparsity": "0.4",
        "--max-source-positions": "512",
        "--finetune-from-model": str(tmp_path / "model.pt"),
        "--adam-betas": "(0.9, 0.98)",
        "--weight-decay": "0.1",
        "--total-num-update": "25",
        "--warmup-updates": "2",
        "--cpu": "",
        "--save-dir": "checkpoints/summarization/news/bart_mini-houlsby64-snip0.4-seed1",
    }
    assert {flag: flags.get(flag) for flag in expected} == expected
    shown = shlex.split(done.stdout.splitlines()[-1])
    assert shown == ["fairseq-train", *(tmp_path / "call").read_text().splitlines()]


@pytest.mark.parametrize(
    "settings, name, absent",
    [
        ({"SPARSITY": "0.0"}, "bart_mini-houlsby64-dense-seed1", {"--pruner", "--sparsity", "--prune-batches"}),
        ({"PRUNER": ""}, "bart_mini-houlsby64-dense-seed1", {"--pruner", "--sparsity", "--prune-batches"}),
        ({"ADAPTER": "none"}, "bart_mini-full-seed1", {"--pruner", "--sparsity", "--adapter-bottleneck"}),
        ({"SEED": "3", "PRUNER": "er", "SPARSITY": ".8"}, "bart_mini-houlsby64-er.8-seed3", {"--large-sparse"}),
        ({"LARGE_SPARSE": "4"}, "bart_mini-houlsby64-snipx4-seed1", {"--sparsity"}),
        ({"ADAPTER": "lora", "LORA_RANK": "4"}, "bart_mini-lora4-snip0.4-seed1", {"--adapter-bottleneck"}),
        ({"ADAPTER": "prefix"}, "bart_mini-prefix30-snip0.4-seed1", {"--adapter-bottleneck", "--lora-rank"}),
        (
            {"ADAPTER": "houlsby+lora", "LORA_RANK": "16"},
            "bart_mini-houlsby+lora64+16-snip0.4-seed1",
            {"--prefix-length"},
        ),
        ({"KEEP_EPOCHS": "2"}, "bart_mini-houlsby64-snip0.4-seed1", {"--no-epoch-checkpoints"}),
        ({"KEEP_EPOCHS": "0"}, "bart_mini-houlsby64-snip0.4-seed1", {"--keep-last-epochs"}),
        ({"ADAPTER": "mam", "PRUNER": "none"}, "bart_mini-mam64+30-dense-seed1", {"--lora-rank", "--sparsity"}),
    ],
)
def test_settings_choose_flags_and_folder(run, tmp_path, settings, name, absent):
    assert run("train.sh", **settings).returncode == 0
    flags = call(tmp_path)
    assert flags["--save-dir"] == f"checkpoints/summarization/news/{name}"
    assert absent.isdisjoint(flags)
    assert flags["--adapter"] == settings.get("ADAPTER", "houlsby")


def test_rouge_of_validation_is_decoded_as_in_evaluation(run, tmp_path):
    (tmp_path / "data" / "news" / "sentencepiece.bpe.model").touch()
    assert run("train.sh", EVAL_ROUGE="1", BEAM="2", ROUGE_WORDS="unicode").returncode == 0
    flags = call(tmp_path)
    decoding = {"beam": 2, "lenpen": 1, "max_len_b": 60, "min_len": 10, "no_repeat_ngram_size": 3}
    assert json.loads(flags["--eval-rouge-args"]) == decoding
    assert flags["--bpe"] == "sentencepiece" and flags["--sentencepiece-model"].startswith(str(tmp_path))
    assert (flags["--eval-rouge-words"], flags["--best-checkpoint-metric"]) == ("unicode", "rouge2")
    assert {"--eval-rouge", "--maximize-best-checkpoint-metric"} <= flags.keys()


def test_large_has_the_papers_setting_and_arguments_override(run, tmp_path):
    settings = {"ARCH": "sparse_adapter_bart_large", "WORLD_SIZE": "8", "MAX_UPDATE": "9"}
    done = run("train.sh", "--label-smoothing", "0", "--fp16", **settings)
    assert done.returncode == 0, done.stderr
    flags = call(tmp_path)
    assert (flags["--adapter-bottleneck"], flags["--max-source-positions"]) == ("512", "1024")
    assert (flags["--update-freq"], flags["--max-update"]) == ("2", "9")  # 16 batches in all, over 8 processes
    assert "--max-epoch" not in flags
    assert flags["--label-smoothing"] == "0" and "--fp16" in flags
    # A process that sees one GPU of eight would not ask fairseq for the others.
    assert flags["--distributed-world-size"] == "8"


def test_another_schedule_has_its_own_options(run, tmp_path):
    for words in (("--lr-scheduler", "inverse_sqrt"), ("--lr-scheduler=polynomial_decay", "--lr-scheduler=fixed")):
        assert run("train.sh", *words).returncode == 0
        assert {"--total-num-update", "--warmup-updates"}.isdisjoint(call(tmp_path))
    assert run("train.sh", "--lr-scheduler", "fixed", "--lr-scheduler", "polynomial_decay").returncode == 0
    assert call(tmp_path)["--total-num-update"] == "25"


def test_nodes_of_slurm_are_counted_as_fairseq_does(run, tmp_path):
    nodes = {"SLURM_NNODES": "2", "SLURM_NTASKS": "8", "ARCH": "sparse_adapter_bart_large"}
    assert run("train.sh", "--distributed-port", "1234", **nodes).returncode == 0
    flags = call(tmp_path)
    assert (flags["--distributed-world-size"], flags["--update-freq"]) == ("8", "2")
    assert run("train.sh", "--distributed-port=1234", **nodes).returncode == 0
    assert call(tmp_path)["--distributed-world-size"] == "8"
    assert run("train.sh", **nodes).returncode == 0  # without a port, fairseq stays on its node
    flags = call(tmp_path)
    assert "--distributed-world-size" not in flags and flags["--update-freq"] == "16"


@pytest.mark.parametrize(
    "script, settings, expected",
    [
        ("train.sh", {"BACKBONE": "absent.pt"}, "absent.pt: there is no such file"),
        ("train.sh", {"BACKBONE": "", "ARCH": "sparse_adapter_bart_base"}, "set BACKBONE"),
        ("train.sh", {"DATA": "absent"}, "holds no binarised data"),
        ("evaluate.sh", {"SAVE_DIR": "absent"}, "absent/checkpoint_best.pt: there is no such file"),
        ("evaluate.sh", {"CHECKPOINT": "model.pt", "SUBSET": "train"}, "train.summary.txt is missing"),
        ("prepare.sh", {}, "set RAW"),
        ("train.sh", {"MAX_POSITIONS": "300"}, "examples of 400 tokens, and the model 300 positions"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, script, settings, expected):
    done = run(script, **settings)
    assert done.returncode == 1 and expected in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "call").exists() and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("script", ["prepare.sh", "train.sh", "evaluate.sh", "interactive.sh"])
def test_help_names_every_setting(run, script):
    shown = run(script, "--help").stdout
    text = (EXAMPLE / script).read_text()
    settings = {word.split(":")[0].split("}")[0] for word in text.split("${")[1:]} - {"BASH_SOURCE[0]"}
    names = {name for name in settings if name.isupper() and name not in ("WORLD_SIZE",)}
    assert names and all(name in shown for name in names), names
    assert "set -euo" not in shown


def evaluation_data(tmp_path: Path) -> None:
    (tmp_path / "data" / "news" / "test.summary.txt").write_text("balo rin\ntesk omu\n")
    (tmp_path / "data" / "news" / "sentencepiece.bpe.model").touch()


def test_evaluate_scores_what_was_generated(run, tmp_path):
    evaluation_data(tmp_path)
    (tmp_path / "output").write_text(
        "INFO:fairseq.logging.progress_bar::      1 / 2 wps=5\n"
        "D-1\t-0.1\ttesk omu\nP-1\t-0.1\nD-0\t-0.1\tbalo\nP-0\t-0.1\n"
    )
    settings = {"SAVE_DIR": "run", "CHECKPOINT": "model.pt", "OUTPUT": str(tmp_path / "output"), "STATUS": "0"}
    done = run("evaluate.sh", "--beam", "2", **settings, BACKBONE="bob's model.pt")
    assert done.returncode == 0, done.stderr
    assert "1 / 2 wps=5" in done.stdout and "rougeLsum" in done.stdout
    assert (tmp_path / "run" / "hypotheses.txt").read_text() == "balo\ntesk omu\n"
    flags = call(tmp_path)
    assert flags["--bpe"] == "sentencepiece" and flags["--beam"] == "2"
    decoding = {"--lenpen": "1", "--max-len-b": "60", "--min-len": "10", "--no-repeat-ngram-size": "3"}
    assert {flag: flags[flag] for flag in decoding} == decoding
    assert ast.literal_eval(flags["--model-overrides"]) == {"backbone": str(tmp_path / "bob's model.pt")}


def test_evaluate_leaves_nothing_of_a_failure(run, tmp_path):
    evaluation_data(tmp_path)
    (tmp_path / "output").write_text("INFO | loading\nD-0\t-0.1\tbalo\nP-0\t-0.1\nerror: model.pt is damaged\n")
    settings = {"SAVE_DIR": "run", "CHECKPOINT": "model.pt", "OUTPUT": str(tmp_path / "output"), "STATUS": "1"}
    done = run("evaluate.sh", **settings)
    assert (done.returncode, done.stderr) == (1, "error: model.pt is damaged\n")
    assert not (tmp_path / "run").exists()


def test_updates_are_counted_as_the_trainer_makes_them(tmp_path, monkeypatch):
    """7 examples in batches of 2, up to 3 batches to an update."""
    from fairseq.data import Dictionary, indexed_dataset

    dictionary = Dictionary()
    dictionary.add_symbol("balo")
    for side in ("source", "target"):
        dictionary.save(str(tmp_path / f"dict.{side}.txt"))
        for split, lengths in (("train", range(1, 8)), ("valid", [1, 2]), ("long", [3, 9])):
            prefix = str(tmp_path / f"{split}.source-target.{side}")
            builder = indexed_dataset.make_builder(prefix + ".bin", impl="mmap", vocab_size=len(dictionary))
            for length in lengths:
                builder.add_item(dictionary.encode_line("balo " * length))
            builder.finalize(prefix + ".idx")
    spec = importlib.util.spec_from_file_location("summarization_count", EXAMPLE.parent / "count_updates.py")
    count = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("logging.disable", lambda level: None)
    spec.loader.exec_module(count)
    monkeypatch.setattr(sys, "argv", ["count_updates"])  # fairseq looks for --user-dir there
    command = [str(tmp_path), "--arch", "bart_base", "--lr-scheduler", "polynomial_decay", "--update-freq", "3"]
    command += ["--batch-size", "2", "--required-batch-size-multiple", "1", "--cpu", "--distributed-world-size", "1"]
    assert count.updates([*command, "--max-epoch", "5"]) == 10
    assert count.updates([*command, "--max-epoch", "5", "--max-update", "7"]) == 7
    # Longer targets than the model has positions are left out: 5 and its end symbol are the last to fit.
    assert count.updates([*command, "--max-epoch", "5", "--max-target-positions", "6", "--update-freq", "1"]) == 15
    assert count.updates([*command, "--max-epoch", "5", "--distributed-world-size", "2"]) == 5
    assert count.updates([*command, "--max-epoch", "5", "--max-tokens", "8"]) == 10
    assert count.updates([*command, "--max-epoch", "3", "--update-freq", "1,3"]) == 4 + 2 + 2
    assert count.updates([*command, "--max-epoch", "5", "--skip-remainder-batch"]) == 5
    assert count.updates([*command, "--max-epoch", "5", "--lr-scheduler", "inverse_sqrt"]) == 10
    with pytest.raises(SystemExit, match="^error: 2 of 7 training examples are longer than --max-tokens 6 and would"):
        count.updates([*command, "--max-epoch", "5", "--max-tokens", "6"])
    # fairseq would end the training with these after its first epoch, and save nothing.
    long = ["--max-epoch", "5", "--valid-subset", "valid,long"]
    with pytest.raises(SystemExit, match="^error: 1 of 2 examples of long are longer than the model's positions"):
        count.updates([*command, *long, "--max-target-positions", "8"])
    with pytest.raises(SystemExit, match="^error: examples of long are longer than --max-tokens-valid 9: raise it"):
        count.updates([*command, *long, "--max-tokens", "9"])
    for allowed in ("--skip-invalid-size-inputs-valid-test", "--disable-validation"):
        assert count.updates([*command, *long, "--max-target-positions", "8", allowed]) == 10
    with pytest.raises(SystemExit, match="^error: neither"):
        count.updates(command)
    with pytest.raises(SystemExit, match="^error: argument --arch/-a: invalid choice"):
        count.updates([*command, "--arch", "absent"])
    with pytest.raises(SystemExit, match="^error: no training example is as short as"):
        count.updates([*command, "--max-epoch", "5", "--max-target-positions", "1"])


def test_a_run_goes_on_with_its_own_data_only(run, tmp_path):
    prepared, save_dir = tmp_path / "data" / "news" / "prepare.json", tmp_path / "run"
    labels = prepared.parent / "label" / "train.bin"
    labels.parent.mkdir()
    labels.write_bytes(b"\1\0")

    def prepare(limit: int | None, folder: str = "/data/news") -> None:
        record = {"settings": {"raw": folder, "limit_train": limit}, "splits": {"train": {"examples": limit or 900}}}
        prepared.write_text(json.dumps(record))

    for limit in (100, None):  # until there is a checkpoint, nothing is gone on with
        prepare(limit)
        assert run("train.sh", SAVE_DIR="run").returncode == 0
    (save_dir / "checkpoint_last.pt").touch()
    prepare(None, "/elsewhere/news")
    assert run("train.sh", SAVE_DIR="run").returncode == 0
    prepare(100)
    (tmp_path / "call").unlink()
    done = run("train.sh", SAVE_DIR="run")
    assert done.returncode == 1 and not (tmp_path / "call").exists()
    assert done.stderr == (
        f"error: {save_dir} was trained on other data than data/news has now: settings.limit_train was None and is "
        "100, splits.train.examples was 900 and is 100; give another SAVE_DIR, or delete this one to train anew\n"
    ).replace("data/news", str(tmp_path / "data" / "news"))
    prepare(None)
    labels.write_bytes(b"\0\1")  # as of another fold
    assert "files.label/train.bin was " in run("train.sh", SAVE_DIR="run").stderr
    labels.write_bytes(b"\1\0")

    answers = prepared.parent / "valid.questions.jsonl"
    answers.write_text("{}")  # of runs that were begun before they were recorded, they may be what they are
    assert run("train.sh", SAVE_DIR="run").returncode == 0
    record = json.loads((save_dir / "prepare.json").read_text())
    record["files"]["valid.questions.jsonl"] = "0"
    (save_dir / "prepare.json").write_text(json.dumps(record))
    assert "files.valid.questions.jsonl was 0 and is " in run("train.sh", SAVE_DIR="run").stderr

    older = {
        name: part for name, part in json.loads((save_dir / "prepare.json").read_text()).items() if name != "files"
    }
    (save_dir / "prepare.json").write_text(json.dumps(older))
    assert run("train.sh", SAVE_DIR="run").returncode == 0


def test_finished_runs_are_not_mixed_with_those_of_other_settings(run, tmp_path):
    settings = {"OUT": str(tmp_path / "out"), "FAMILIES": "houlsby", "LARGE": "2"}
    run("families.sh", **settings)  # nothing is trained, and nothing scored
    for name in ("houlsby-dense", "houlsby-snip-large2"):
        (tmp_path / "out" / f"{name}-seed1" / "scores.json").touch()
    refusal = "out/houlsby-dense-seed1 was begun with BEAM= and is now asked for with BEAM=4: give another folder"
    assert refusal in run("families.sh", BEAM="4", **settings).stderr
    for other in ({}, {"SPARSITY": "0.8"}, {"SEEDS": "1 2"}, {"DATA": str(tmp_path / "data" / "news")}):
        assert "was begun with" not in run("families.sh", **settings, **other).stderr


def test_a_finished_run_is_not_taken_for_one_on_another_backbone_or_other_data(run, tmp_path):
    settings = {"OUT": str(tmp_path / "out"), "FAMILIES": "houlsby", "LARGE": ""}
    data = tmp_path / "data" / "news"
    files = {"BACKBONE": tmp_path / "model.pt", "DATA": data / "test.source-target.source.bin"}
    for file in (*files.values(), data / "train.source-target.source.idx"):
        file.write_bytes(b"these")
    run("families.sh", **settings)
    folder = tmp_path / "out" / "houlsby-dense-seed1"
    (folder / "scores.json").touch()
    for name, file in files.items():
        file.write_bytes(b"those")  # in the same place
        expected = rf"{folder} was begun with {name}=\w+\S* \(cksum .*\) and is now asked for with {name}="
        assert re.search(expected, run("families.sh", **settings).stderr)
        moved = tmp_path / "moved" / name / file.parent.name / file.name
        moved.parent.mkdir(parents=True)
        moved.write_bytes(b"these")
        if name == "DATA":
            for part in ("dict.source.txt", "prepare.json", "train.source-target.source.idx"):
                shutil.copy(file.parent / part, moved.parent)
        elsewhere = {name: str(moved if name == "BACKBONE" else moved.parent)}
        assert "was begun with" not in run("families.sh", **settings, **elsewhere).stderr
        file.write_bytes(b"these")


def test_tasks_of_slurm_that_see_a_gpu_each_are_refused(run, tmp_path):
    """Each would train alone, and all of them into one folder."""
    slurm = {"SLURM_NNODES": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
    refused = run("train.sh", "--distributed-port", "12345", **slurm)
    assert refused.returncode == 1 and not (tmp_path / "call").exists()
    assert "each of 4 tasks on a node of Slurm sees fewer than 4 GPUs" in refused.stderr
    for other in ({"SLURM_NTASKS": "1"}, {"SLURM_NTASKS": "8", "SLURM_NNODES": "8"}, {"SLURM_PROCID": ""}):
        assert run("train.sh", "--distributed-port=12345", **slurm | other).returncode == 0


def test_scripts_that_compare_evaluate_what_they_have_trained(run, tmp_path):
    """Also where the shell has still exported what another evaluation was of."""
    (tmp_path / "other.pt").touch()
    for name in ("valid.summary.txt", "test.summary.txt", "sentencepiece.bpe.model"):
        (tmp_path / "data" / "news" / name).touch()
    exported = {"CHECKPOINT": str(tmp_path / "other.pt"), "SUBSET": "valid", "STATUS": "1", "OUTPUT": "/dev/null"}
    settings = {"OUT": str(tmp_path / "out"), "FAMILIES": "houlsby", "LARGE": ""}
    run("families.sh", **exported, **settings)
    assert call(tmp_path)["--gen-subset"] == "test"
    (tmp_path / "out" / "frozen" / "scores.json").touch()
    (tmp_path / "out" / "houlsby-dense-seed1" / "checkpoint_best.pt").touch()
    run("families.sh", **exported, **settings)
    assert call(tmp_path)["--path"] == str(tmp_path / "out" / "houlsby-dense-seed1" / "checkpoint_best.pt")


def test_families_pass_arguments_on_and_count_them_among_the_settings(run, tmp_path):
    settings = {"OUT": str(tmp_path / "out"), "FAMILIES": "houlsby", "LARGE": ""}
    (tmp_path / "out" / "frozen").mkdir(parents=True)
    (tmp_path / "out" / "frozen" / "scores.json").touch()
    run("families.sh", "--fp16", "--adam-betas", "(0.9, 0.99)", **settings)
    assert (call(tmp_path)["--adam-betas"], "--fp16" in call(tmp_path)) == ("(0.9, 0.99)", True)
    (tmp_path / "out" / "houlsby-dense-seed1" / "checkpoint_last.pt").touch()
    for flags in ((), ("--log-file", "/there/is/a/slash")):
        assert "was begun with FLAGS=--fp16 --adam-betas" in run("families.sh", *flags, **settings).stderr


def test_a_fusion_is_of_the_adapters_that_were_just_trained(run, tmp_path):
    shutil.copytree(tmp_path / "data" / "news", tmp_path / "data" / "blogs")
    (tmp_path / "venv" / "bin" / "fairseq-train").write_text(
        '#!/bin/sh\nprintf "%s " "$@" >> "$CALL"; echo >> "$CALL"\n'
        'while [ "$1" != --save-dir ]; do shift; done; touch "$2/checkpoint_best.pt"; echo "{}" > "$2/scores.json"\n'
    )
    out, data = tmp_path / "out", [str(tmp_path / "data" / name) for name in ("news", "blogs")]
    settings = {"DATASETS": " ".join(data), "OUT": str(out)}
    run("../fusion/run.sh", "--clip-norm", "1", **settings)
    calls = [line.split() for line in (tmp_path / "call").read_text().splitlines()]
    folders = [call[call.index("--save-dir") + 1] for call in calls]
    assert [call[call.index("--adapter") + 1] for call in calls] == ["pfeiffer", "pfeiffer", "adapter_fusion"]
    assert [call[0] for call in calls] == [*data, data[0]] and folders[-1] == f"{out}/fusion"
    fused = calls[-1][calls[-1].index("--fusion-adapters") + 1]
    assert fused == ",".join(f"{folder}/checkpoint_best.pt" for folder in folders[:2])
    assert all(call[call.index("--clip-norm", call.index("--clip-norm") + 1) + 1] == "1" for call in calls)
    # Larger adapters are sparser, which a fusion's matrices, as large as the model's, cannot be.
    (tmp_path / "call").unlink()
    run("../fusion/run.sh", **settings | {"OUT": f"{out}-large", "LARGE_SPARSE": "2"})
    calls = [line.split() for line in (tmp_path / "call").read_text().splitlines()]
    assert ["--large-sparse" in call for call in calls] == [True, True, False] and "--sparsity" in calls[-1]
    # Adapters that were trained again are not those that were fused.
    for folder in (*folders[:2], f"{out}/fusion"):
        assert Path(folder, "done").exists()
    Path(folders[1], "checkpoint_best.pt").write_bytes(b"another")
    assert f"{out}/fusion was begun with FUSED=" in run("../fusion/run.sh", "--clip-norm", "1", **settings).stderr
    # Fewer adapters are another fusion.
    settings["DATASETS"] = data[0]
    assert re.search("was begun with FUSED=.* FLAGS=", run("../fusion/run.sh", "--clip-norm", "1", **settings).stderr)


@pytest.mark.parametrize("name", ["prepare", "glue/prepare", "glue/evaluate", "glue/predict", "squad/evaluate"])
def test_scripts_without_arguments_refuse_them(run, name):
    done = run(f"../{name}.sh" if "/" in name else f"{name}.sh", "--fp16")
    assert done.returncode == 1
    assert done.stderr == "error: --fp16: this script takes no arguments; its settings are variables, see --help\n"


def test_an_environment_of_conda_is_the_active_one_but_its_base(run, tmp_path):
    conda = {"VENV": "", "CONDA_PREFIX": str(tmp_path / "venv")}
    assert run("train.sh", CONDA_DEFAULT_ENV="gpu", **conda).returncode == 0
    assert (tmp_path / "call").exists()
    script = 'CONDA_PREFIX=/none PATHS=; source examples/common.sh; echo "$VENV"'
    for name, expected in (("base", ".venv"), ("gpu", "/none")):
        done = subprocess.run(["bash", "-c", script], cwd=EXAMPLE.parents[1], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "CONDA_DEFAULT_ENV": name})  # fmt: skip
        assert done.stdout == f"{expected}\n"


def test_the_environment_is_found_or_named(run, tmp_path):
    assert run("train.sh", VENV="venv").returncode == 0
    done = run("train.sh", VENV="no-such")
    assert done.returncode == 1 and done.stderr == f"error: VENV {tmp_path}/no-such: there is no environment\n"
