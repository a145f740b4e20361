"""Generated strings with all that has ever shifted an offset."""

import random

PARTS = [
    *"abcXYZ129 ,.!?'-_<|>()…“”，。！？",
    *["the", " film", " was", "Good", "don't", "I'LL", " free", "prize", "call now"],
    *[" ", " ", "  ", "\t", "\n", "\n\n", "\r\n", "\xa0", "\u3000", "\u2009", "\x85", "\u2028"],
    *["e\u0301", "E\u0301", "é", "a\u0323\u0302", "o\u0302\u0323", "ñ", "n\u0303", "Å", "\u212b"],
    *["\u1112\u1161\u11ab", "\u1100\u1161", "가\u11a8", "한국어", "각", "\u1161", "ㄱㅏ"],
    *["ｶﾞ", "ﾊﾟ", "ｱ", "ｰ", "ﾞ", "カメラ", "か\u3099", "ひらがな", "ー", "ゝ"],
    *["ﬁ", "ﬃ", "İ", "I\u0307", "ı", "ß", "ẞ", "ǅ", "Σ", "ΟΔΟΣ", "ς", "𝔘", "℃", "½", "㍿", "Ａ１"],
    *["👩\u200d💻", "👨\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "🇨🇳", "🙂", "1\ufe0f\u20e3"],
    *[
        "\U0001f3f4\U000e0067\U000e0062\U000e007f",
        "a\u200db",
        "\u200d",
        "\u200dx",
        "क\u094d\u200dष",
    ],
    *["\xad", "co\xadop", "\u200b", "\ufeff", "\x00", "\x01", "\x7f", "\x0b", "\u200e", "\ufffd"],
    *["报告", "很好看", "北京iPhone15号", "，很", "𠮷", "々", "豈", "𪚥x"],
    *["ภาษาไทย", "ที่", "ລາວ", "ខ្មែរ", "မြန်မာ", "กำ"],
    *["हिन्दी", "مَرحبا", "שָלום", "Ж", "\u0301", " \u0301x", "\u0958", "´", "¨x", "≠", "\u037e"],
    *["w" * 100, "w" * 101, "é" * 51, "的" * 40, "<|endoftext|>", "</s>", "[MASK]", "▁"],
]
FIXED = [
    "",
    " ",
    "\n",
    "\u0301",
    "\u200d",
    "\xad",
    "\x00",
    "报告",
    "  报告",
    "a",
    "e\u0301",
    "\ufeffHello",
]


def odd_strings(count, seed=0, most=14):
    """`count` strings of up to `most` parts each, and a few fixed ones."""
    rng = random.Random(seed)
    made = ["".join(rng.choices(PARTS, k=rng.randint(1, most))) for _ in range(count)]
    return [*FIXED, *made]
