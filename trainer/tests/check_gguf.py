"""Reads GGUF files with the packages gguf and transformers, and compares with folders.

    python check_gguf.py TRIPS.json

TRIPS.json is a list of `name`, `file`, `folder`, `exact`: the file's tensors must be the folder's,
by the names that the gguf package maps Hugging Face's to and in the layout that llama.cpp wants; and
where transformers can load the file, it must compute what it computes from the folder. tests/gguf.rs
writes all of it and runs this.
"""

import json
import os
import sys

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROWS = torch.tensor([[7, 301, 12, 44, 399, 262, 8, 1]])


def tensors_of(file):
    reader = gguf.GGUFReader(file)
    return reader, {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}


def interleaved(rows, heads):
    """Rows [out, ...] of a Llama projection in the order of GGUF's rotary embedding."""
    parts = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return parts.swapaxes(1, 2).reshape(rows.shape)


def wanted_of(folder):
    """The folder's tensors by GGUF's names, as llama.cpp wants them."""
    config = AutoConfig.from_pretrained(folder)
    kind = config.model_type
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[kind]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    wanted = {}
    for name, tensor in load_file(os.path.join(folder, "model.safetensors")).items():
        if kind == "gpt2" and name.endswith(
            ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        ):
            tensor = tensor.T
        if kind == "llama" and ".q_proj." in name:
            tensor = interleaved(tensor, config.num_attention_heads)
        if kind == "llama" and ".k_proj." in name:
            tensor = interleaved(tensor, config.num_key_value_heads)
        wanted[names.get_name(name, (".weight", ".bias"))] = tensor
    return config, wanted


def check_tensors(trip):
    reader, found = tensors_of(trip["file"])
    config, wanted = wanted_of(trip["folder"])
    extra = set(found) - set(wanted) - {"rope_freqs.weight"}
    assert not extra and set(wanted) <= set(found), (extra, set(wanted) - set(found))
    worst = 0.0
    for name, tensor in wanted.items():
        there = found[name].reshape(tensor.shape)
        # Quantised numbers are sums and products of f16 and integers; theirs may round once more.
        worst = max(worst, float(np.abs(there - tensor).max()))
        if trip["exact"]:
            assert np.array_equal(there, tensor), name
    assert worst < 1e-6, f"{trip['name']}: {worst}"
    if "rope_freqs.weight" in found:
        scaling = config.rope_parameters
        check_factors(found["rope_freqs.weight"], scaling, config.head_dim)
    return worst


def check_factors(found, scaling, dim):
    """Llama 3.1's factors, as llama.cpp's converter makes them from the settings."""
    old = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for index, factor in enumerate(found):
        wave = 2 * np.pi * scaling["rope_theta"] ** (2 * index / dim)
        if wave < old / high:
            wanted = 1.0
        elif wave > old / low:
            wanted = scaling["factor"]
        else:
            smooth = (old / wave - low) / (high - low)
            wanted = 1 / ((1 - smooth) / scaling["factor"] + smooth)
        assert abs(factor - wanted) < 1e-5, (index, factor, wanted)


def check_logits(trip):
    """transformers reads neither rotary scaling nor every size from GGUF: the folder's configuration
    helps it, so this checks names, layouts and numbers once more."""
    folder, file = os.path.split(trip["file"])
    config = AutoConfig.from_pretrained(trip["folder"])
    ours = AutoModelForCausalLM.from_pretrained(trip["folder"], dtype=torch.float32).eval()
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, config=config, dtype=torch.float32
    ).eval()
    worst = (ours(ROWS).logits - theirs(ROWS).logits).abs().max().item()
    assert worst < 1e-4, f"{trip['name']}: {worst}"
    return worst


def check_tokenizer(trip):
    folder, file = os.path.split(trip["file"])
    ours = AutoTokenizer.from_pretrained(trip["folder"])
    reader = gguf.GGUFReader(trip["file"])

    def field(name):
        return reader.get_field("tokenizer." + name).contents()

    tokens = field("ggml.tokens")
    vocabulary = ours.get_vocab()
    assert all(vocabulary[token] == index for index, token in enumerate(tokens))
    assert field("ggml.eos_token_id") == ours.eos_token_id
    assert field("ggml.bos_token_id") == ours.bos_token_id
    assert field("ggml.padding_token_id") == ours.pad_token_id
    assert field("chat_template") == ours.chat_template
    special = {index for index, kind in enumerate(field("ggml.token_type")) if kind == 3}
    assert special == {index for index, t in ours.added_tokens_decoder.items() if t.special}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        trips = json.load(file)
    with torch.no_grad():
        for trip in trips:
            file = os.path.basename(trip["file"])
            worst = check_tensors(trip)
            logits = check_logits(trip)
            check_tokenizer(trip)
            print(f"{file}: tensors differ by {worst:.1e}, logits by {logits:.1e}")


if __name__ == "__main__":
    main()
