"""All kinds of models that can be converted."""

from .bart import BART, MBART
from .bert import BERT
from .roberta import ROBERTA, XLMR

# By transformers' model_type.
KINDS = {"bert": BERT, "roberta": ROBERTA, "xlm-roberta": XLMR, "bart": BART, "mbart": MBART}
