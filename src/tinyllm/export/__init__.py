"""Models in the forms that other programs read, compared with the checkpoint at once.

workflow.py         `run`: the checkpoint, the form, the comparison, the upload
hf_folder.py        a folder for transformers: config, weights, tokenizer, template, card
chat_templates.py   our chat template in the languages of others (Jinja, Ollama's)
model_card.py       README.md: shape, data and licences, measured scores
gguf_workflow.py    a file for llama.cpp, Ollama's Modelfile, the comparison
gguf_file.py        its keys and tensors, and the way back
gguf_tensors.py     names and order of our weights there
gguf_tokenizer.py   our tokenizers there
parity.py           how far two models are apart
"""
