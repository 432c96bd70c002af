"""Classification and regression on RoBERTa and BERT, from files in the layout that fairseq published."""

import json
import re
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.tasks import setup_task
from omegaconf import OmegaConf
from sparse_adapter.modules import is_adapter_key, use_fast_dropout
from sparse_adapter.tasks.sentence_prediction import SparseAdapterSentencePredictionConfig
from torch.nn import functional

from ..commands import REPOSITORY, run
from .conftest import BIN, error_line, succeed, write_pairs
from .test_two_processes import distributed

SIZES = {"encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data whose label says whether the pair begins with the same word, and a random RoBERTa of before 2020."""
    root = tmp_path_factory.mktemp("pairs")
    dictionary = write_pairs(root / "data")
    dictionary.add_symbol("<mask>")
    args = Namespace(arch="roberta_base", task="masked_lm", criterion="masked_lm", max_positions=512, **SIZES)
    ARCH_CONFIG_REGISTRY["roberta_base"](args)
    torch.manual_seed(1)
    model = ARCH_MODEL_REGISTRY["roberta_base"].build_model(args, SimpleNamespace(source_dictionary=dictionary))
    old = {
        re.sub("^encoder", "decoder", key).replace("layernorm_embedding", "emb_layer_norm"): value
        for key, value in model.state_dict().items()
        if not key.endswith("version")
    }
    history = [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {"best": None}, "num_updates": 9}]
    extra = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    state = {"args": args, "model": old, "optimizer_history": history, "extra_state": extra}
    torch.save(state, root / "model.pt")
    return root


def train(folder, save_dir, *extra: str, arch="sparse_adapter_roberta_base", **kwargs):
    return run("fairseq-train", *train_arguments(folder, save_dir, *extra, arch=arch), **kwargs)


def train_arguments(folder, save_dir, *extra: str, arch="sparse_adapter_roberta_base") -> list[str]:
    sizes = [word for name, size in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(size))]
    return [
        *(str(folder / "data"), "--user-dir", str(REPOSITORY / "user_dir"), "--arch", arch, *sizes),
        *("--task", "sparse_adapter_sentence_prediction", "--criterion", "sentence_prediction"),
        *("--num-classes", "2", "--init-token", "0", "--separator-token", "2", "--max-positions", "512"),
        *("--finetune-from-model", str(folder / "model.pt"), "--adapter-bottleneck", "8", "--dropout", "0"),
        *("--pruner", "snip", "--sparsity", "0.4", "--optimizer", "adam", "--lr", "0.003", "--batch-size", "16"),
        *("--max-update", "6", "--cpu", "--num-workers", "0", "--log-format", "simple", "--log-interval", "1"),
        *("--required-batch-size-multiple", "1", "--save-dir", str(save_dir), *extra),
    ]


@pytest.mark.parametrize("arch", ["sparse_adapter_roberta_base", "sparse_adapter_bert_base"])
def test_a_published_file_starts_a_run(folder, tmp_path, arch):
    """BERT's segment embeddings are not in the file: what is not in it is refused, and nothing is left out silently."""
    result = train(folder, tmp_path / "run", "--adapter-only-checkpoints", arch=arch)
    if arch == "sparse_adapter_bert_base":
        assert "encoder.segment_embeddings.weight" in error_line(result)
        return
    out = succeed(result)
    assert re.search(r"valid on 'valid' subset \| loss \S+ .*acc \S+ .*f1 \S+ .*mcc", out), out[-3000:]
    saved = load_checkpoint_to_cpu(str(tmp_path / "run" / "checkpoint_last.pt"))["model"]
    heads = {key for key in saved if not is_adapter_key(key)}
    head = "classification_heads.sentence_classification_head"
    assert heads == {f"{head}.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")}
    report = json.loads((tmp_path / "run" / "sparsity.json").read_text())
    assert report["matrix_total"] == {"kept": round(0.6 * 2048), "total": 2048, "density": round(0.6 * 2048) / 2048}
    assert report["trained"]["others"] == 32 * 32 + 32 + 2 * 32 + 2


def test_validation_and_resume(folder, tmp_path):
    options = ["--adapter-only-checkpoints", "--adapter", "mam", "--prefix-length", "3"]
    for name, updates in (("straight", "10"), ("resumed", "8"), ("resumed", "10")):  # epochs have 6
        trained = succeed(train(folder, tmp_path / name, *options, "--max-update", updates))
    straight, resumed = (
        load_checkpoint_to_cpu(str(tmp_path / name / "checkpoint_last.pt"))["model"] for name in ("straight", "resumed")
    )
    assert all(torch.equal(value, straight[key]) for key, value in resumed.items())
    out = succeed(
        run(
            "fairseq-validate",
            *(str(folder / "data"), "--user-dir", str(REPOSITORY / "user_dir"), "--cpu", "--num-workers", "0"),
            *("--task", "sparse_adapter_sentence_prediction", "--criterion", "sentence_prediction"),
            *("--num-classes", "2", "--init-token", "0", "--separator-token", "2", "--batch-size", "16"),
            *("--path", str(tmp_path / "straight" / "checkpoint_last.pt")),
        )
    )
    scores = [re.findall(r"valid on 'valid' subset .* acc (\S+) .* mcc (\S+)", text)[-1] for text in (out, trained)]
    assert scores[0] == scores[1]


def task_of(folder, **settings):
    """The task, in this process."""
    name = "sparse_adapter_sentence_prediction"
    cfg = OmegaConf.structured(SparseAdapterSentencePredictionConfig(_name=name, data=str(folder / "data")))
    common = {"num_classes": 2, "seed": 1, "init_token": 0, "separator_token": 2, "regression_target": False}
    return setup_task(OmegaConf.merge(cfg, common | {"classification_head_name": "head"} | settings))


def test_what_makes_training_faster_is_set(folder):
    backends = torch.backends.cuda
    kernels = ("flash", "mem_efficient", "cudnn")
    before = torch.get_float32_matmul_precision(), [getattr(backends, f"{name}_sdp_enabled")() for name in kernels]
    try:
        task_of(folder, matmul_precision="medium", attention_kernel="math", dropout_kernel="fast")
        torch.manual_seed(1)
        fast = functional.dropout(torch.ones(100))
        assert torch.get_float32_matmul_precision() == "medium" and backends.math_sdp_enabled()
        assert not any(getattr(backends, f"{name}_sdp_enabled")() for name in kernels)
        task = task_of(folder, dropout_kernel="torch")
        for read in (False, True):  # a checkpoint that is read, as by fairseq-validate, drops nothing
            if read:
                setup_task(OmegaConf.merge(task.cfg, {"dropout_kernel": "fast"}), from_checkpoint=True)
            torch.manual_seed(1)
            assert not torch.equal(functional.dropout(torch.ones(100)), fast)
    finally:
        use_fast_dropout(False)
        torch.set_float32_matmul_precision(before[0])
        for name, enabled in zip(kernels, before[1], strict=True):
            getattr(backends, f"enable_{name}_sdp")(enabled)


def test_two_processes_report_what_one_does(folder, tmp_path):
    """Of 31 examples, which are no two equal shares, and in training that changes nothing."""
    options = ("--lr", "0", "--max-update", "1", "--no-save", "--batch-size", "4", "--ddp-backend", "legacy_ddp")
    arguments = train_arguments(folder, tmp_path, *options)
    outputs = [
        succeed(distributed(str(BIN / "fairseq-train"), *arguments)),
        succeed(run("fairseq-train", *arguments)),
    ]
    two, one = (
        [float(re.findall(rf"valid on 'valid' subset.*\| {name} (\S+)", out)[-1]) for name in ("acc", "f1", "mcc")]
        for out in outputs
    )
    assert two == pytest.approx(one, abs=0.01)
    assert one[0] * 0.31 == pytest.approx(round(one[0] * 0.31), abs=1e-3)  # a number of examples


def test_whatever_trains_is_in_the_loss(folder):
    """Of full fine-tuning, too: DDP would wait for the gradients of the masked language model's head."""
    task = task_of(folder)
    args = Namespace(arch="sparse_adapter_roberta_base", adapter="none", max_positions=512, **SIZES)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    model = task.build_model(args)
    dataset = task.load_dataset("valid")
    batch = dataset.collater([dataset[i] for i in range(4)])["net_input"]
    model(**batch, features_only=True, classification_head_name="head")[0].sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert "encoder.sentence_encoder.embed_tokens.weight" in trained and "encoder.lm_head.dense.weight" not in trained


def test_every_epoch_has_other_batches_of_one_iterator(folder):
    """Of one, since each would keep its worker processes for as long as training lasts."""
    task = task_of(folder)
    task.load_dataset("train", combine=True)  # as fairseq's trainer does

    def iterator(epoch: int):
        return task.get_batch_iterator(task.dataset("train"), max_sentences=16, seed=1, epoch=epoch)

    epochs = iterator(1)
    batches = []
    for epoch in (1, 2, 3):
        assert iterator(epoch) is epochs
        batches.append([sample["id"].tolist() for sample in epochs.next_epoch_itr()])
        assert sorted(sum(batches[-1], [])) == list(range(96))
    assert len({frozenset(map(frozenset, epoch)) for epoch in batches}) == 3


def test_a_relaunch_trains_the_same_weights(folder, tmp_path):
    """The optimizer's state is that of the heads alone, or of all weights."""
    full = ("--adapter", "none", "--pruner", "none", "--sparsity", "0")
    succeed(train(folder, tmp_path / "run", *full, "--freeze-backbone"))
    error = error_line(train(folder, tmp_path / "run", *full))
    assert "was trained with --freeze-backbone: do the same, or choose another --save-dir" in error


def test_every_validation_has_the_same_batches(folder):
    """--max-valid-steps takes the first ones, and fairseq counts epochs of validation, too."""
    task = task_of(folder)
    task.load_dataset("valid")
    batches = []
    for _ in range(3):
        iterator = task.get_batch_iterator(task.dataset("valid"), max_sentences=4, seed=1)
        epoch = iterator.next_epoch_itr(shuffle=False, set_dataset_epoch=False)
        batches.append([sample["id"].tolist() for sample in epoch])
    assert batches[0] == batches[1] == batches[2] and len(batches[0]) == 8


def test_scores_are_not_rounded_in_half_precision(folder):
    """fairseq's trainer casts what is float32 of a batch: 3.817 would be 3.8125."""
    task = task_of(folder, num_classes=1, regression_target=True)
    dataset = task.load_dataset("valid")
    targets = dataset.collater([dataset[i] for i in range(31)])["target"]
    scores = [float(line) for line in (folder / "data" / "label" / "valid.label").read_text().split()]
    assert targets.dtype == torch.float64 and targets.view(-1).tolist() == scores


def test_regression_reports_pearson(folder, tmp_path):
    out = succeed(train(folder, tmp_path / "run", "--regression-target", "--num-classes", "1"))
    assert re.search(r"valid on 'valid' subset .*pearson -?\d", out)


@pytest.mark.parametrize(
    "arch, expected",
    [
        ("sparse_adapter_transformer", "has no classification heads: use RoBERTa, BERT or BART"),
        ("sparse_adapter_bart_base", "has a decoder: add --add-prev-output-tokens"),
    ],
)
def test_models_that_classify_nothing_are_refused(folder, tmp_path, arch, expected):
    assert expected in error_line(train(folder, tmp_path / "run", arch=arch))


def test_missing_number_of_classes_is_one_line(folder, tmp_path):
    assert "--num-classes" in error_line(train(folder, tmp_path / "run", "--num-classes", "-1"))


def test_adapters_of_one_task_start_another(folder, tmp_path):
    """Its head has another size, and the new run a report of its own."""
    succeed(train(folder, tmp_path / "first", "--max-update", "2"))
    start = ("--finetune-from-model", str(tmp_path / "first" / "checkpoint_last.pt"), "--max-update", "2")
    other = ("--regression-target", "--num-classes", "1")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "sparsity.json").write_text("{}")  # of a run that was given up
    assert "not pruned again" in succeed(train(folder, tmp_path / "second", *start, *other))
    first, second = (json.loads((tmp_path / name / "sparsity.json").read_text()) for name in ("first", "second"))
    assert second["mask_sha256"] == first["mask_sha256"] and second["adapters_of"].endswith("first/checkpoint_last.pt")


def test_a_relaunch_with_another_pruner_is_told(folder, tmp_path):
    succeed(train(folder, tmp_path / "run", "--max-update", "2"))
    report = (tmp_path / "run" / "sparsity.json").read_text()
    out = succeed(train(folder, tmp_path / "run", "--max-update", "3", "--pruner", "random"))
    assert "--pruner was snip and is random" in out
    assert (tmp_path / "run" / "sparsity.json").read_text() == report
