"""examples/translation: what prepare.sh writes and refuses, the scores, and the scripts from text to translation."""

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary, indexed_dataset
from sacrebleu.metrics import BLEU
from sparse_adapter.convert.architecture import train_options
from sparse_adapter.errors import UsageError
from sparse_adapter.text import Codec

EXAMPLE = Path(__file__).parents[2] / "examples" / "translation"
ENGLISH = "one two three red house dog sees a big green tree under the old bridge and many people walk home"
GERMAN = "eins zwei drei rot haus hund sieht ein gross gruen baum unter die alt bruecke und viele leute gehen heim"
WORDS = dict(zip(ENGLISH.split(), GERMAN.split(), strict=True))


def sentences(count: int) -> list[list[str]]:
    words = list(WORDS)
    return [[words[(i * k + k) % len(words)] for k in range(1, 3 + i % 5)] for i in range(count)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Word-by-word translations between two languages of 19 words."""
    folder = tmp_path_factory.mktemp("raw")
    for split, count in (("train", 60), ("valid", 8), ("test", 9)):
        rows = sentences(count)
        (folder / f"{split}.en").write_text("".join(" ".join(row) + "\n" for row in rows))
        text = "".join(" ".join(WORDS[word] for word in row) + "\n" for row in rows)
        (folder / f"{split}.de.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def script(name: str, cwd: Path, *arguments: str, input: str | None = None, **settings) -> subprocess.CompletedProcess:
    """A script of the example with settings in its environment."""
    known = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS") if key in os.environ}
    environment = known | {"VENV": sys.prefix} | {key: str(value) for key, value in settings.items()}
    command = ["bash", str(EXAMPLE / name), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, input=input, timeout=300)


def load(name: str):
    """A script of the example, which finds the others beside it."""
    sys.path.insert(0, str(EXAMPLE))
    spec = importlib.util.spec_from_file_location(f"translation_{name}", EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(EXAMPLE))
    return module


@pytest.fixture(scope="module")
def prepare():
    """main() of prepare.py, with flags by name."""
    module = load("prepare")

    def prepare(raw: Path, data: Path, *flags, source: str = "en", target: str = "de") -> None:
        flags = ("--source", source, "--target", target, "--raw", raw, "--data", data, *flags)
        module.main([str(flag) for flag in flags])

    return prepare


@pytest.fixture(scope="module")
def data(raw, tmp_path_factory) -> Path:
    """prepare.sh with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("translation") / "general"
    done = script("prepare.sh", folder.parent, RAW=raw, DATA=folder, VOCAB=48, MAX_LENGTH=40)
    assert done.returncode == 0, done.stderr
    return folder


def test_pieces_round_trip_to_the_text(data, raw):
    dictionary = Dictionary.load(str(data / "dict.de.txt"))
    binary = indexed_dataset.make_dataset(str(data / "test.en-de.de"), "mmap")
    assert dictionary.unk() not in torch.cat([binary[i] for i in range(len(binary))])
    text = [dictionary.string(binary[i], bpe_symbol="sentencepiece") for i in range(len(binary))]
    assert text == gzip.decompress((raw / "test.de.gz").read_bytes()).decode().splitlines()
    assert (data / "test.de").read_text().splitlines() == text


def test_languages_share_dictionary_and_model(data):
    assert (data / "dict.en.txt").read_text() == (data / "dict.de.txt").read_text()
    assert (data / "sentencepiece.bpe.model").is_file()


@pytest.mark.slow
def test_separate_vocabularies(prepare, raw, tmp_path):
    prepare(raw, tmp_path / "data", "--vocabulary", 40, "--separate")
    models = {path.name for path in (tmp_path / "data").glob("*.model")}
    assert models == {"sentencepiece.en.model", "sentencepiece.de.model"}
    english, german = (tmp_path / "data" / f"dict.{language}.txt" for language in ("en", "de"))
    assert english.read_text() != german.read_text()

    common = {"DATA": "data", "MAX_UPDATE": 1, "OMP_NUM_THREADS": 1}
    for name, settings in {
        "pretrain.sh": {"SAVE_DIR": "backbone", "DIM": 64, "LAYERS": 1},
        "train.sh": {"SAVE_DIR": "run", "BACKBONE": "backbone/checkpoint_best.pt", "BOTTLENECK": 8, "PRUNER": "random"},
    }.items():
        done = script(name, tmp_path, **common, **settings)
        assert done.returncode == 0, done.stderr[-2000:]


def test_sizes_and_the_scale_of_embeddings_are_those_of_the_backbone(tmp_path):
    args = {"arch": "transformer_iwslt_de_en", "no_scale_embedding": True, "decoder_layers": 4, "encoder_layers": 6}
    expected = "--arch sparse_adapter_transformer_iwslt_de_en --no-scale-embedding --decoder-layers 4"
    assert train_options(args) == expected
    assert "--no" not in train_options(args | {"no_scale_embedding": False})
    with pytest.raises(UsageError, match="without --no-scale-embedding, and fairseq-train cannot leave that out"):
        train_options({"arch": "bart_large", "no_scale_embedding": False})


def test_a_backbone_brings_its_dictionary_and_pieces(prepare, data, raw, tmp_path):
    prepare(raw, tmp_path, "--backbone-dir", data)
    for name in ("dict.en.txt", "dict.de.txt", "sentencepiece.bpe.model"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


@pytest.fixture(scope="module")
def wmt(raw, tmp_path_factory) -> Path:
    """What a WMT model of fairseq's brings: dictionaries by language, and codes of subword-nmt for tokenised text."""
    learn_bpe, apply_bpe = (pytest.importorskip(f"subword_nmt.{name}") for name in ("learn_bpe", "apply_bpe"))
    moses = pytest.importorskip("sacremoses").MosesTokenizer("en")
    folder = tmp_path_factory.mktemp("wmt")
    texts = {"en": (raw / "train.en").read_text(), "de": gzip.decompress((raw / "train.de.gz").read_bytes()).decode()}
    lines = [moses.tokenize(line, return_str=True) for text in texts.values() for line in text.splitlines()]
    with (folder / "bpecodes").open("w") as codes:
        learn_bpe.learn_bpe(lines, codes, 30)
    with (folder / "bpecodes").open() as codes:
        bpe = apply_bpe.BPE(codes)
    for language in texts:
        dictionary = Dictionary()
        for line in lines:
            dictionary.encode_line(bpe.process_line(line), append_eos=False)
        dictionary.save(str(folder / f"dict.{language}.txt"))
    return folder


def test_a_backbone_brings_its_own_bpe_and_tokenizer(prepare, wmt, raw, tmp_path):
    prepare(raw, tmp_path, "--backbone-dir", wmt, "--tokenizer", "moses")
    settings = json.loads((tmp_path / "prepare.json").read_text())["settings"]
    assert (settings["bpe"], settings["tokenizer"]) == ("subword_nmt", "moses")
    flags = [sys.executable, str(EXAMPLE / "encode.py"), "--data", str(tmp_path), "--flags"]
    shown = subprocess.run(flags, capture_output=True, text=True).stdout.split()
    assert shown == ["--bpe", "subword_nmt", "--bpe-codes", str(tmp_path / "bpecodes"), "--tokenizer", "moses"]
    dictionary = Dictionary.load(str(tmp_path / "dict.de.txt"))
    binary = indexed_dataset.make_dataset(str(tmp_path / "test.en-de.de"), "mmap")
    encoded = [dictionary.string(binary[i]) for i in range(len(binary))]
    codec = Codec.build("moses", "subword_nmt", bpe_codes=str(tmp_path / "bpecodes"), target_lang="de")
    assert any("@@" in line for line in encoded)
    assert [codec.decode(line) for line in encoded] == (tmp_path / "test.de").read_text().splitlines()


def test_longer_training_pairs_are_left_out_and_counted(prepare, raw, tmp_path):
    prepare(raw, tmp_path, "--vocabulary", 48, "--max-length", 6)
    splits = json.loads((tmp_path / "prepare.json").read_text())["splits"]
    assert splits["train"]["left_out"] > 0 and splits["train"]["pairs"] + splits["train"]["left_out"] == 60
    assert splits["test"] == splits["test"] | {"left_out": 0, "pairs": 9}


def test_training_pairs_with_an_empty_side_are_left_out_and_counted(prepare, raw, tmp_path):
    copy = shutil.copytree(raw, tmp_path / "raw")
    texts = (raw / "train.en").read_text(), gzip.decompress((raw / "train.de.gz").read_bytes()).decode()
    (copy / "train.de.gz").unlink()
    for language, text, empty in zip(("en", "de"), texts, ((0, 5), (5, 9)), strict=True):
        lines = ["" if i in empty else line for i, line in enumerate(text.splitlines())]
        (copy / f"train.{language}").write_text("\n".join(lines) + "\n")
    prepare(copy, tmp_path / "data", "--vocabulary", 48)
    splits = json.loads((tmp_path / "data" / "prepare.json").read_text())["splits"]
    assert (splits["train"]["pairs"], splits["train"]["empty"], splits["test"]["empty"]) == (57, 3, 0)


def test_training_pairs_of_which_the_bpe_leaves_nothing_are_left_out_and_counted(prepare, raw, data, tmp_path):
    copy = shutil.copytree(raw, tmp_path / "raw")
    lines = (raw / "train.en").read_text().splitlines()
    (copy / "train.en").write_text("\n".join(["\u200b", *lines[1:-1], "\ufeff"]) + "\n")
    prepare(copy, tmp_path / "data", "--backbone-dir", data)
    splits = json.loads((tmp_path / "data" / "prepare.json").read_text())["splits"]
    assert (splits["train"]["pairs"], splits["train"]["empty"]) == (58, 2)
    lines = (raw / "test.en").read_text().splitlines()
    (copy / "test.en").write_text("\n".join([lines[0], "\u200e", *lines[2:]]) + "\n")
    with pytest.raises(SystemExit, match="test, line 2: nothing of a side is left after BPE"):
        prepare(copy, tmp_path / "other", "--backbone-dir", data)


@pytest.mark.parametrize(
    "language, tokenizer",
    [
        ("de_DE", "13a"),
        ("zh-CN", "zh"),
        ("zho_Hans", "zh"),
        ("ZH", "zh"),
        ("th_TH", "char"),
        ("my_MM", "char"),
        ("yue_Hant", "zh"),
        ("bo", "char"),
    ],
)
def test_the_tokenizer_of_a_language(language, tokenizer):
    spec = importlib.util.spec_from_file_location("translation_score", EXAMPLE / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"tok:{tokenizer}|" in module.score(["a b"], ["a c"], language)["bleu_signature"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda raw: (raw / "valid.en").write_text("one\n"), "unequal numbers of lines, valid.en 1 and valid.de 8"),
        (
            lambda raw: (raw / "valid.en").write_text("one\n\n" + "two\n" * 5 + "\n"),
            "2 of the 8 pairs of valid have an empty side, first line 2",
        ),
        (lambda raw: (raw / "train.en").unlink(), "train.en: there is no such file, nor train.en.gz"),
        (lambda raw: (raw / "train.en").write_bytes(b"one\n\xff\n"), "train.en, line 2: byte 0xff is not UTF-8"),
    ],
)
def test_bad_text_is_refused_before_anything_is_written(prepare, raw, tmp_path, change, message):
    copy = tmp_path / "raw"
    copy.mkdir()
    for path in raw.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    change(copy)
    refused(prepare, message, copy, tmp_path / "data")
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


@pytest.mark.parametrize(
    "flags, languages, message",
    [
        (("--vocabulary", 3000), {}, "set a smaller VOCAB"),
        (("--langs", "en_XX,de_DE"), {}, "language en is not one of LANGS: en_XX,de_DE"),
        ((), {"target": "en"}, "SRC and TGT are both en"),
        (("--backbone-dir", EXAMPLE), {}, "holds no BPE for en and de"),
        (("--backbone-dir", EXAMPLE, "--bpe", "gpt2"), {}, "dict.txt is missing"),
        (("--bpe", "subword_nmt"), {}, "set BACKBONE_DIR"),
        (("--tokenizer", "moses"), {}, "TOKENIZER=moses is for BPEs that want tokenised text"),
        (("--backbone-dir", "nowhere"), {}, "there is no such folder"),
    ],
)
def test_settings_that_cannot_work_are_refused(prepare, raw, tmp_path, flags, languages, message):
    refused(prepare, message, raw, tmp_path / "data", *flags, **languages)
    assert not list(tmp_path.iterdir())


def test_the_dictionary_of_another_model_is_refused(prepare, raw, data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "sentencepiece.bpe.model").write_bytes((data / "sentencepiece.bpe.model").read_bytes())
    (other / "dict.txt").write_text("hello 1\nworld 1\n")
    refused(prepare, "knows 0% of the symbols of train.en", raw, tmp_path / "data", "--backbone-dir", other)
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


def refused(prepare, message: str, *arguments, **languages) -> None:
    with pytest.raises(SystemExit) as stop:
        prepare(*arguments, **languages)
    assert message in str(stop.value) and "\n" not in str(stop.value)


def test_from_text_to_translation(data, raw, tmp_path):
    """Pretrain, adapt, average, score, translate standard input; then the refusals that need a trained model."""
    common = {"DATA": data, "MAX_TOKENS": "400", "OMP_NUM_THREADS": "1"}

    def run(name: str, *arguments: str, input: str | None = None, **settings) -> subprocess.CompletedProcess:
        done = script(name, tmp_path, *arguments, input=input, **common, **settings)
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        return done

    assert "error: DIM 96: a multiple of 64" in script("pretrain.sh", tmp_path, **common, DIM=96).stderr
    run("pretrain.sh", SAVE_DIR="backbone", MAX_UPDATE=3, DIM=64, LAYERS=1)
    adapted = {"BACKBONE": "backbone/checkpoint_best.pt", "SAVE_DIR": "R&D", "BOTTLENECK": "8"}
    run("train.sh", "--prune-batches", "2", MAX_EPOCH=2, KEEP_EPOCHS=2, **adapted)
    report = json.loads((tmp_path / "R&D/sparsity.json").read_text())
    assert report["pruner"] == "snip" and report["matrix_total"]["kept"] == round(0.6 * report["matrix_total"]["total"])
    assert not any("embed_tokens" in key for key in torch.load(tmp_path / "R&D/checkpoint_last.pt")["model"])

    run("evaluate.sh", SAVE_DIR="R&D", AVERAGE=2)
    hypotheses = (tmp_path / "R&D/hypotheses.txt").read_text().splitlines()
    references = (data / "test.de").read_text().splitlines()
    scores = json.loads((tmp_path / "R&D/scores.json").read_text())
    assert scores["n"] == len(hypotheses) == len(references) == 9
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(hypotheses, [references]).score, abs=1e-4)
    assert "tok:13a" in scores["bleu_signature"] and "nc:6" in scores["chrf_signature"]

    lines = (data / "test.en").read_text()
    translated = run("interactive.sh", SAVE_DIR="R&D", CHECKPOINT="R&D/average.pt", input=lines)
    assert [line.strip() for line in translated.stdout.splitlines()] == hypotheses

    moved = tmp_path / "backbone/checkpoint_best.pt"
    moved.rename(tmp_path / "moved.pt")
    run("evaluate.sh", SAVE_DIR="R&D", BACKBONE="moved.pt")
    other = script("train.sh", tmp_path, **common, SAVE_DIR="french", BACKBONE="moved.pt", TGT="fr")
    assert other.returncode == 1 and "holds no en-fr; it holds dict.de.txt dict.en.txt" in other.stderr
    assert not (tmp_path / "french").exists()


def test_the_table_counts_gains_from_the_backbone(tmp_path):
    systems = {"backbone": (10.0, 30.0, 0), "full": (20.0, 12.0, 1000), "lora-sparse0.4": (17.0, 28.0, 60)}
    for name, (software, general, trained) in systems.items():
        for domain, bleu in (("software", software), ("general", general)):
            folder = tmp_path / f"{name}-seed1" / domain
            folder.mkdir(parents=True)
            scores = {"bleu": bleu, "chrf": 40.0, "n": 9, "bleu_signature": "b", "chrf_signature": "c"}
            (folder / "scores.json").write_text(json.dumps(scores))
        (tmp_path / f"{name}-seed1" / "sparsity.json").write_text(json.dumps({"trained": {"total": trained}}))
    command = [sys.executable, str(EXAMPLE / "table.py"), *(str(tmp_path / f"{name}-seed1") for name in systems)]
    done = subprocess.run([*command, "--json", str(tmp_path / "rows.json")], capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert rows == [
        ["backbone", "0", "10.0", "40.0", "", "", "30.0", "30.0"],
        ["full", "1,000", "20.0", "40.0", "+10.0", "100 %", "12.0", "-"],
        ["lora-sparse0.4", "60", "17.0", "40.0", "+7.0", "70 %", "28.0", "30.0"],
    ]
    assert json.loads((tmp_path / "rows.json").read_text())[1]["system"] == "full"
    second = tmp_path / "lora-sparse0.4-seed2"
    shutil.copytree(tmp_path / "lora-sparse0.4-seed1", second)
    scores = json.loads((second / "software" / "scores.json").read_text())
    (second / "software" / "scores.json").write_text(json.dumps(scores | {"bleu": 15.0}))
    done = subprocess.run([*command, command[2], str(second)], capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "backbone, seed 1",
        "full, seed 1",
        *(f"lora-sparse0.4, seed {n}" for n in "12"),
    ]
    assert [row[4] for row in rows] == ["", "+10.0", "+7.0", "+5.0"] and rows[3][5] == ""


def test_the_worked_example_keeps_the_splits_of_its_sources(tmp_path):
    """Half of Debian's training packages go to the general text, and none of its others."""
    rows = [
        f"{split}\tpackage{i}\t{split} {i}\tauf deutsch {i}" for split in ("train", "valid", "test") for i in range(9)
    ]
    (tmp_path / "en-de.tsv.gz").write_bytes(gzip.compress("\n".join([*rows, ""]).encode()))
    for name in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            lines = "".join(f"{name} {language} {i}\n" for i in range(4))
            (tmp_path / f"{name}.{language}.gz").write_bytes(gzip.compress(lines.encode()))
    pairs = load("debian_pairs")
    flags = ["--debian", str(tmp_path / "en-de.tsv.gz"), "--limit-test", "2"]
    pairs.main([*flags, "--out", str(tmp_path / "software")])
    pairs.main([*flags, "--out", str(tmp_path / "general"), "--captions", str(tmp_path)])
    text = {path.relative_to(tmp_path).as_posix(): path.read_text().splitlines() for path in tmp_path.glob("*/*.*")}
    assert text["software/train.en"] == [f"train {i}" for i in range(9)] and len(text["software/train.de"]) == 9
    assert text["software/test.de"] == ["auf deutsch 0", "auf deutsch 1"]
    assert text["general/test.en"] == ["test_2016_flickr en 0", "test_2016_flickr en 1"]
    captions, packages = text["general/train.en"][:4], text["general/train.en"][4:]
    assert captions == [f"train en {i}" for i in range(4)] and 0 < len(packages) < 9
    assert set(packages) < set(text["software/train.en"]) and len(text["general/train.de"]) == 4 + len(packages)

    (tmp_path / "en-de.tsv.gz").write_bytes(gzip.compress(b"train\tpackage\tno German\n"))
    with pytest.raises(SystemExit, match="line 1: not split, package, English and German"):
        pairs.main([*flags, "--out", str(tmp_path / "software")])
