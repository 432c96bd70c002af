"""Several families over one backbone, on random models."""

import random
import shutil
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fairseq.checkpoint_utils import load_model_ensemble
from sparse_adapter.adapters.lora import LowRank
from sparse_adapter.adapters.parallel import ParallelBottleneck
from sparse_adapter.adapters.sites import AtResidual
from sparse_adapter.checkpoint.adapter_file import fresh_checkpoint, write_adapter_file
from sparse_adapter.checkpoint.adapter_only import backbone_fingerprint
from sparse_adapter.checkpoint.rebuild import own_arguments
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import is_adapter_key, sparse_weights
from sparse_adapter.serving import PLAIN, Translator
from sparse_adapter.serving.backbone import keep_lora_apart_
from sparse_adapter.serving.domains import generation

from ..conftest import randomize

TASK = {"_name": "sparse_adapter_translation", "source_lang": "source", "target_lang": "target"}
FAMILIES = {
    "houlsby": {"adapter_bottleneck": 8},
    "large": {"adapter_bottleneck": 16},
    "lora": {"adapter": "lora", "lora_rank": 4, "lora_sites": "q,k,v,out,fc1,fc2"},
    "prefix": {"adapter": "prefix", "prefix_length": 3},
}
BEAM = {"beam": 3, "max_len_b": 9}


def save_backbone(path: Path, model) -> None:
    """As a stock BART that was pretrained by denoising."""
    args = own_arguments(model.adapter_args) | {"arch": "bart_base", "_name": "bart_base"}
    torch.save(fresh_checkpoint({"model": Namespace(**args), "task": {"_name": "denoising"}}, model.state_dict()), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, dictionary, build_bart) -> Path:
    """A plain backbone, its dictionaries, and an adapter file of every family; those of "large" are not pruned."""
    folder = tmp_path_factory.mktemp("serving")
    for language in ("source", "target"):
        dictionary.save(str(folder / f"dict.{language}.txt"))
    save_backbone(folder / "b.pt", build_bart(adapter="none"))
    for name, options in FAMILIES.items():
        model = randomize(build_bart(**options), std=0.5)
        for weight in sparse_weights(model).values() if name != "large" else ():
            weight.prune_(torch.rand(weight.shape) < 0.6)
        model.adapter_args.backbone_fingerprint = backbone_fingerprint(model)
        tensors = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
        sections = {"model": own_arguments(model.adapter_args), "task": TASK}
        write_adapter_file(folder / f"{name}.safetensors", tensors, sections, {})
    return folder


def load(folder, *names: str, **options) -> Translator:
    files = {name: folder / f"{name}.safetensors" for name in names}
    return Translator.load(folder / "b.pt", files, data=folder, **BEAM, **options)


@pytest.fixture(scope="module")
def translator(folder) -> Translator:
    return load(folder, *FAMILIES)


@pytest.fixture
def texts() -> list[str]:
    generator = random.Random(1)
    return [" ".join(f"word{generator.randrange(56)}" for _ in range(generator.randint(1, 20))) for _ in range(12)]


def test_together_is_as_alone(folder, translator, texts):
    asked = [(name, text) for text in texts for name in (*FAMILIES, PLAIN)]
    together = dict(zip(asked, translator.translate_mixed(asked), strict=True))
    for name in FAMILIES:
        alone = load(folder, name).translate(texts, name)
        assert [together[name, text] for text in texts] == alone == translator.translate(texts, name)


@pytest.mark.parametrize("name", [*FAMILIES, PLAIN])
def test_threads_do_not_meddle_with_each_other(translator, texts, name):
    expected = translator.translate(texts, name)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: translator.translate(texts, name), range(6)))
    assert all(translations == expected for translations in found)


def test_a_model_computes_for_one_thread_at_a_time(translator, texts, monkeypatch):
    domain, held = translator._domains["houlsby"], []
    step = domain.task.inference_step
    monkeypatch.setattr(domain.task, "inference_step", lambda *a: held.append(domain.lock.locked()) or step(*a))
    translator.translate(texts, "houlsby")
    assert held and all(held)


def test_a_batch_that_runs_out_of_memory_leaves_nothing_behind(tmp_path, folder, build_bart, texts, monkeypatch):
    """Of two families at one residual connection, the second would act at the next one it comes to."""
    model = randomize(build_bart(adapter="houlsby+parallel", adapter_bottleneck=8), std=0.5)
    tensors = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    sections = {"model": own_arguments(model.adapter_args), "task": TASK}
    write_adapter_file(tmp_path / "both.safetensors", tensors, sections, {})
    translator = Translator.load(folder / "b.pt", {"both": tmp_path / "both.safetensors"}, data=folder, **BEAM)
    expected = translator.translate(texts, "both")
    with monkeypatch.context() as patched:
        patched.setattr(ParallelBottleneck, "change", raise_out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            translator.translate(texts, "both")
    residual = [module for module in translator._domains["both"].model.modules() if isinstance(module, AtResidual)]
    assert any(module.due for module in residual)
    assert translator.translate(texts, "both") == expected


def raise_out_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_length_and_its_penalty_reach_the_generator(folder, texts):
    def longest(**limits) -> int:
        files = {"houlsby": folder / "houlsby.safetensors"}
        translator = Translator.load(folder / "b.pt", files, data=folder, beam=3, **limits)
        return max(len(text.split()) for text in translator.translate(texts, "houlsby"))

    assert longest(max_len_b=2) <= 2 < longest(max_len_a=1.0, max_len_b=2)
    assert load(folder, "houlsby", lenpen=3.0)._domains["houlsby"].generator.len_penalty == 3.0


@pytest.mark.parametrize("limits", [{"batch_size": 1}, {"batch_size": 5}, {"max_tokens": 25}], ids=str)
def test_batches_change_nothing(folder, translator, texts, limits):
    assert load(folder, "houlsby", **limits).translate(texts, "houlsby") == translator.translate(texts, "houlsby")


def beams(domain, model, generator, texts: list[str]) -> list[dict]:
    dataset = domain.dataset(texts)
    sample = dataset.collater([dataset[i] for i in range(len(texts))])
    return [beam for beams in domain.task.inference_step(generator, [model], sample) for beam in beams]


def stock_beams(domain, path, texts: list[str], merged: bool = True) -> list[dict]:
    """Loaded, prepared and decoded as fairseq-generate does; if asked for, LoRA is not merged, as in serving."""
    cfg = generation(**BEAM, lenpen=1.0, max_len_a=0.0)
    overrides = {"backbone": str(path.parent / "b.pt"), "backbone_vocabulary": "60 60"}
    (model,), _ = load_model_ensemble([str(path)], arg_overrides=overrides, task=domain.task)
    model.prepare_for_inference_(cfg)
    if not merged:
        keep_lora_apart_(model)
    return beams(domain, model, domain.task.build_generator([model], cfg.generation), texts)


def test_the_plain_backbone_is_the_backbone_to_the_bit(folder, translator, texts):
    domain = translator._domains[PLAIN]
    expected, found = stock_beams(domain, folder / "b.pt", texts), beams(domain, domain.model, domain.generator, texts)
    for key in ("tokens", "positional_scores"):
        assert all(torch.equal(x[key], y[key]) for x, y in zip(expected, found, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_decode_as_in_fairseq_generate(folder, translator, texts, name):
    domain, path = translator._domains[name], folder / f"{name}.safetensors"
    expected, apart = stock_beams(domain, path, texts), stock_beams(domain, path, texts, merged=False)
    for x, y, z in zip(expected, apart, beams(domain, domain.model, domain.generator, texts), strict=True):
        assert torch.equal(x["tokens"], z["tokens"]) and torch.equal(y["positional_scores"], z["positional_scores"])


def test_the_backbone_is_in_memory_once(translator):
    plain = dict(translator.model(PLAIN).named_parameters())
    for name in FAMILIES:
        model = translator.model(name)
        own = dict(model.named_parameters())
        assert all(own[key].data_ptr() == value.data_ptr() for key, value in plain.items())
        assert all(is_adapter_key(key) for key in own.keys() - plain.keys())
        assert all(module.merged is None for module in model.modules() if isinstance(module, LowRank))


def test_every_domain_has_scores_of_its_own(translator, texts):
    domains = [translator._domains[name] for name in translator.domains]
    scores = {float(beams(domain, domain.model, domain.generator, texts)[0]["score"]) for domain in domains}
    assert len(scores) == len(FAMILIES) + 1


def test_requests_keep_their_order(translator, texts):
    assert translator.domains == [PLAIN, *FAMILIES]
    assert translator.translate([]) == []
    one, other = translator.translate(texts[:1], "lora")[0], translator.translate(texts[1:2])[0]
    assert translator.translate_mixed([("lora", texts[0]), ("", texts[1]), ("lora", texts[0])]) == [one, other, one]


def test_what_cannot_be_translated_is_refused(translator):
    with pytest.raises(UsageError, match="unknown domain 'housby'; did you mean 'houlsby'?"):
        translator.translate(["word1"], domain="housby")
    with pytest.raises(UsageError, match="the text has 71 tokens, and the model or --max-tokens allows 64"):
        translator.translate(["word1 " * 70])


def test_adapters_of_another_backbone_are_refused(folder, tmp_path, build_bart):
    copy = shutil.copytree(folder, tmp_path / "copy")
    model = build_bart(adapter="none")
    model.encoder.layers[0].fc1.weight.data[0, 0] += 1e-3
    save_backbone(copy / "b.pt", model)
    with pytest.raises(UsageError, match="b.pt is not the backbone that .*lora.safetensors was trained on"):
        load(copy, "lora")


def test_adapters_of_another_architecture_are_refused(folder, tmp_path, build_bart):
    copy = shutil.copytree(folder, tmp_path / "copy")
    save_backbone(copy / "b.pt", build_bart(adapter="none", encoder_normalize_before=True))
    with pytest.raises(UsageError, match="lora.safetensors was trained on another architecture than that of"):
        load(copy, "lora")


def test_the_backbone_may_share_more_embeddings(folder, tmp_path, build_bart, texts):
    """Adapters that were trained on a copy with separate ones."""
    copy, apart = shutil.copytree(folder, tmp_path / "copy"), {"share_decoder_input_output_embed": False}
    model = randomize(build_bart(share_all_embeddings=False, **apart), std=0.5)
    plain = build_bart(adapter="none")
    model.load_state_dict(plain.state_dict() | {k: v for k, v in model.state_dict().items() if is_adapter_key(k)})
    model.adapter_args.backbone_fingerprint = backbone_fingerprint(model)
    assert model.adapter_args.backbone_fingerprint != backbone_fingerprint(plain)
    tensors = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    sections = {"model": own_arguments(model.adapter_args), "task": TASK}
    write_adapter_file(copy / "apart.safetensors", tensors, sections, {})
    found = load(copy, "houlsby", "apart", "lora").translate(texts, "apart")
    cfg = {"model": Namespace(**sections["model"]), "task": TASK}
    torch.save(fresh_checkpoint(cfg, model.state_dict()), copy / "whole.pt")
    whole = Translator.load(copy / "b.pt", {"whole": copy / "whole.pt"}, data=copy, **BEAM)
    assert whole.translate(texts, "whole") == found and len(found) == len(texts)


def test_a_tokenizer_has_the_language_of_its_domain(folder, tmp_path):
    pytest.importorskip("sacremoses")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name, source in (("lora", "fr"), ("houlsby", "en")):
        sidecar = copy / f"{name}.json"
        sidecar.write_text(sidecar.read_text().replace('"source_lang": "source"', f'"source_lang": "{source}"'))
        shutil.copy(copy / "dict.source.txt", copy / f"dict.{source}.txt")
    translator = load(copy, "houlsby", "lora", tokenizer="moses")
    words = [translator._encoded(domain, "l'homme") for domain in ("lora", "houlsby")]
    assert words == ["l&apos; homme", "l &apos;homme"]


def test_a_length_that_allows_nothing_is_refused(folder):
    with pytest.raises(UsageError, match="allow no token at all"):
        Translator.load(folder / "b.pt", data=folder, source_lang="source", target_lang="target", max_len_b=0)
