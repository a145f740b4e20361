"""Level 3: text from decoder backbones, one loop for Python, streams and SavedModels."""

from kerasft.generation.beam import beam_search
from kerasft.generation.cache import step_model
from kerasft.generation.cached import Cached
from kerasft.generation.loop import generate
from kerasft.generation.sampling import choose, repetition_penalty, temperature, top_k, top_p
from kerasft.generation.stream import stream
from kerasft.generation.text import detokenizer

__all__ = [
    "Cached",
    "beam_search",
    "choose",
    "detokenizer",
    "generate",
    "repetition_penalty",
    "step_model",
    "stream",
    "temperature",
    "top_k",
    "top_p",
]
