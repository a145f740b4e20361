"""The texts of the golden files, and the corpus that their tiny tokenizers are trained on."""

TEXTS = [
    "The film was good, and I don't regret the 12 dollars!",
    "Café Zürich: the naïve résumé was bad.",
    "这部电影很好看，我喜欢。",
    "The movie was long. " * 6
    + "In the end the story was ugly, and 很不好看 as they say; " * 3
    + "The end.",
    "ok",
    "A  movie\tand 100% FREE film: http://x.co (bad)",
]
PAIRS = [
    ["Is the film good?", "The film was very good."],
    ["这部电影好看吗", "很好看，我喜欢"],
]
LABELS = ["bad", "good", "ugly"]
# No order that kerasft would give them.
TAGS = ["I-PER", "B-LOC", "O", "I-LOC", "B-PER"]
TARGETS = [1, 0, 1, 2, 1, 0]
MAX_LENGTH = 40
SEED = 20240
MORE = [
    "A good film is a good story and the end of it was good.",
    "the bad movie was very bad and the ugly film was ugly",
    "很好看的电影 不好看的电影 我喜欢这部电影",
    "resume naive cafe zurich",
]


def corpus() -> list[str]:
    """Every text above, as given and in lower case."""
    lines = TEXTS + [side for pair in PAIRS for side in pair] + MORE
    return lines + [line.lower() for line in lines]
