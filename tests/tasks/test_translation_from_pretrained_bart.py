import pytest
import torch
from fairseq.data import Dictionary, indexed_dataset
from fairseq.tasks import setup_task
from omegaconf import OmegaConf

NAME = "sparse_adapter_translation_from_pretrained_bart"
WORDS = ["one", "two", "three"]
LINES = ["one two", "three"]


@pytest.fixture
def data(tmp_path):
    """A test set of two pairs, en to de; the files of the dictionaries hold words only."""
    dictionary = Dictionary()
    for word in WORDS:
        dictionary.add_symbol(word)
    for language in ("en", "de"):
        dictionary.save(str(tmp_path / f"dict.{language}.txt"))
        prefix = str(tmp_path / f"test.en-de.{language}")
        builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))
        for line in LINES:
            builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")
    return tmp_path


def setup(data, langs="fr,de,en", **options):
    cfg = {"_name": NAME, "data": str(data), "source_lang": "en", "target_lang": "de", "langs": langs}
    return setup_task(OmegaConf.create({**cfg, "dataset_impl": None, "required_seq_len_multiple": 1, **options}))


def test_the_dictionaries_get_the_languages_in_their_order_and_the_mask(data):
    task = setup(data)
    for dictionary in (task.source_dictionary, task.target_dictionary):
        assert dictionary.symbols[dictionary.nspecial :] == [*WORDS, "[fr]", "[de]", "[en]", "<mask>"]


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_sentences_end_in_their_language_in_training_and_in_dialogue(data, prepend_bos):
    task = setup(data, prepend_bos=prepend_bos, train_subset="train")
    task.load_dataset("test")
    trained = task.dataset("test")
    inferred = task.build_dataset_for_inference(*task.get_interactive_tokens_and_lengths(LINES, lambda line: line))
    for i in range(len(LINES)):
        assert torch.equal(trained[i]["source"], inferred[i]["source"])
        assert trained.src_sizes[i] == inferred.src_sizes[i]
    symbols = [task.source_dictionary[token] for token in inferred[0]["source"]]
    assert symbols == ["<s>"] * prepend_bos + ["one", "two", "</s>", "[en]"]
    assert task.target_dictionary[trained[0]["target"][-1]] == "[de]"


@pytest.mark.parametrize(
    "langs, message",
    [
        (None, "--langs is missing"),
        ("en,fr", "the language de is not among --langs en,fr"),
        ("en,de,en", "names a language twice"),
        ("en,,de", "or an empty one"),
    ],
)
def test_mistakes_end_in_one_line(data, langs, message):
    with pytest.raises(SystemExit) as error:
        setup(data, langs)
    assert str(error.value).startswith("error: ") and message in str(error.value)


def test_bleu_does_not_count_the_language(data, monkeypatch):
    task = setup(data)
    task.tokenizer = None
    line, language = task.target_dictionary.encode_line("one two", append_eos=True), task.tgt_dict.index("[de]")
    tokens = torch.cat([line, torch.tensor([language])]).long()
    monkeypatch.setattr(task, "inference_step", lambda *args, **kwargs: [[{"tokens": tokens}]])
    bleu = task._inference_with_bleu(None, {"target": tokens.unsqueeze(0)}, None)
    assert bleu.sys_len == bleu.ref_len == 2
    assert task.tgt_dict.string(tokens) == "one two [de]"
