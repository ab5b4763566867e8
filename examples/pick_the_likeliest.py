"""Draw several answers to each prompt, and keep the one that the model finds likeliest.

python examples/pick_the_likeliest.py [CHECKPOINT] [PROMPT ...]

All answers are drawn together. An answer is judged by the mean log-probability of its tokens.
"""

import sys

import tinyllm

PROMPTS = ["What does a bear eat?", "Where do fish live?"]


def main() -> None:
    """Print the best of eight answers to every prompt, with how likely it is."""
    model = tinyllm.load(sys.argv[1] if len(sys.argv) > 1 else None)
    prompts = sys.argv[2:] or PROMPTS
    answers = model.complete(prompts, n=8, max_new_tokens=40, seed=1, logprobs=0)
    for index, prompt in enumerate(prompts):
        scored = [
            (sum(token.logprob for token in answer.odds or ()) / len(answer.ids), answer.text)
            for answer in answers
            if answer.index == index
        ]
        nats, text = max(scored)
        print(f"{prompt}\n  {text.strip()}  ({nats:.2f} nats a token)")


if __name__ == "__main__":
    main()
