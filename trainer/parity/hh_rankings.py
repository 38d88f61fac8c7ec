"""Makes a rankings file of chosen and rejected answers (HH-RLHF's form), in a drawn order.

    python hh_rankings.py TRAIN.jsonl TEST.jsonl MODEL OUT.jsonl [--max-tokens 192] [--seed 1]

Rows of TRAIN become the split `train`, rows of TEST `validation`. A row whose prompt and longer
answer do not fit MAX_TOKENS of MODEL's tokenizer is left out, on both sides alike, and counted.
"""

import argparse
import json
import random

from transformers import AutoTokenizer


def rows(path, split, tokenizer, longest):
    kept, n_long = [], 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            prompt = tokenizer.apply_chat_template(
                row["messages"], add_generation_prompt=True, return_dict=False
            )
            answers = [row["chosen"], row["rejected"]]
            lengths = [len(tokenizer.encode(text, add_special_tokens=False)) for text in answers]
            if len(prompt) + max(lengths) + 1 > longest or 0 in lengths:
                n_long += 1
                continue
            completions = [
                {"id": name, "text": text, "rank": rank}
                for name, text, rank in zip("ab", answers, (1, 2))
            ]
            kept.append(
                {
                    "id": row["id"],
                    "prompt": row["messages"],
                    "completions": completions,
                    "split": split,
                }
            )
    print(f"{split}: {len(kept)} rankings, {n_long} left out as longer than {longest} tokens")
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("train", "test", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train = rows(options.train, "train", tokenizer, options.max_tokens)
    random.Random(options.seed).shuffle(train)
    held_out = rows(options.test, "validation", tokenizer, options.max_tokens)
    with open(options.out, "w", encoding="utf-8") as file:
        for row in train + held_out:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
