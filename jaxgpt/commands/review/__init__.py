"""Have people choose the better of two answers: `jaxgpt review runs/chat --prompts prompts.jsonl --out prefs.jsonl`."""
