"""FlashRank's own code on a local model: a rival of `benchmarks/serving.py` on the same lists.

FlashRank downloads its models; where their folder is there already it loads that. `prepare` writes a cross-encoder (a
sentence-transformers folder, such as `pairstill export` makes of a teacher) in its form, quantised as its larger ones are;
`measure` runs where FlashRank is installed and needs nothing of pairstill.

    python benchmarks/serving_flashrank.py prepare runs/teacher-for-sentence-transformers runs/flashrank
    python -m venv rival && rival/bin/pip install flashrank
    rival/bin/python benchmarks/serving_flashrank.py measure runs/flashrank candidates.jsonl
"""

import json
import statistics
import sys
import time
from pathlib import Path

NAME, FILE = "ms-marco-MiniLM-L-12-v2", "flashrank-MiniLM-L-12-v2_Q.onnx"
MAX_LENGTH = 64


def prepare(source: str, cache: str) -> None:
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(cache) / NAME
    folder.mkdir(parents=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    words = tokenizer([["two words", "three more words"]] * 2, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    rows, width = torch.export.Dim("rows"), torch.export.Dim("width")
    torch.onnx.export(
        model, tuple(words[name] for name in names[:2]), str(folder / "float32.onnx"), dynamo=True, verbose=False,
        kwargs={"token_type_ids": words["token_type_ids"]}, input_names=names, output_names=["logits"],
        dynamic_shapes={name: {0: rows, 1: width} for name in names},
    )  # fmt: skip
    # Shapes that the exporter wrote contradict those that the quantiser infers; it needs none of them.
    model_file = onnx.load(str(folder / "float32.onnx"))
    model_file.graph.ClearField("value_info")
    onnx.save(model_file, str(folder / "float32.onnx"))
    quantize_dynamic(str(folder / "float32.onnx"), str(folder / FILE), weight_type=QuantType.QInt8)
    for one in folder.glob("float32*"):
        one.unlink()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": tokenizer.pad_token_id}))
    said = {"model_max_length": 512, "pad_token": tokenizer.pad_token}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "special_tokens_map.json").write_text(json.dumps(tokenizer.special_tokens_map))
    print(folder)


def measure(cache: str, candidates: str, repeats: str = "20") -> None:
    from importlib.metadata import version

    from flashrank import Ranker, RerankRequest

    lists = [json.loads(line) for line in Path(candidates).read_text().splitlines()][: int(repeats)]
    ranker = Ranker(model_name=NAME, cache_dir=cache, max_length=MAX_LENGTH)
    waits = []
    for number, one in enumerate([lists[0], *lists]):
        request = RerankRequest(query=one["query"], passages=[{"text": text} for text in one["documents"]])
        began = time.perf_counter()
        ranker.rerank(request)
        if number:
            waits.append(1000 * (time.perf_counter() - began))
    found = {
        "flashrank": version("flashrank"), "documents": len(lists[0]["documents"]),
        "median_ms": round(statistics.median(waits), 1), "worst_ms": round(max(waits), 1),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        measure(*sys.argv[2:])
