def load_tokenizer(folder, layout, config):
    return None
