"""Models in the forms that other programs read, compared with the checkpoint at once.

workflow.py         `run`: the checkpoint, the form, the comparison, the upload
hf_folder.py        a folder for transformers: config, weights, tokenizer, template, card
chat_templates.py   our chat template in the languages of others (Jinja, Ollama's)
model_card.py       README.md: shape, data and licences, measured scores
gguf_file.py        a file for llama.cpp: keys, tensors, quantisation
gguf_tokenizer.py   our tokenizer as llama.cpp has it
gguf_reading.py     such a file as our weights again, for the comparison
parity.py           how far two models are apart
"""

from tinyllm.export.workflow import ExportResult, run

__all__ = ["ExportResult", "run"]
